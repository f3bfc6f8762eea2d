"""Patterns of single calls, imports and functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from finetune_compat.audit.findings import Finding, Fix, Releases, Status, status_of
from finetune_compat.audit.interpreter import Path
from finetune_compat.audit.names import canonical
from finetune_compat.audit.signatures import ANY, Signatures
from finetune_compat.audit.successors import successor
from finetune_compat.audit.values import Class, External, Function, Model, Place, Training

# -------------------------------------------------------------------------------------------------- arguments and names


def argument_findings(path: Path, releases: Releases, signatures: Signatures) -> Iterator[Finding]:
    """Arguments that these releases do not take."""
    for name, given in path.calls:
        short = canonical(name)
        accepted = signatures.arguments(short, releases.versions)
        if accepted is None or ANY in accepted:
            continue
        for argument in given.named:
            if argument not in accepted and signatures.ever(short, argument):
                yield _removed(short, argument, accepted, given.place, releases)
    for training in path.trainings:
        yield from _of_subclass(training, releases, signatures)


def _of_subclass(training: Training, releases: Releases, signatures: Signatures) -> Iterator[Finding]:
    """Arguments that a trainer of the project hands to the library's."""
    if training.own is None:
        return
    accepted = signatures.arguments(training.kind, releases.versions)
    if accepted is None or ANY in accepted or training.own.find("__init__") is not None:
        return
    for argument in training.given:
        if argument not in accepted and signatures.ever(training.kind, argument):
            yield _removed(training.kind, argument, accepted, training.place, releases)


def _removed(name: str, argument: str, accepted: Sequence[str], place: Place, releases: Releases) -> Finding:
    package, _, short = name.partition(".")
    new = successor(name, argument, accepted)
    versions = releases.text(package) + (
        f" with {releases.text('transformers')}" if package == "trl" and short.endswith("Config") else ""
    )
    why = f"{short} of {versions} has no {argument}" + (f": use {new}" if new else "")
    plain = new.isidentifier()
    fix = Fix(place.node, rename={argument: new}) if plain else Fix(place.node, remove=(argument,))
    return Finding("removed-argument", Status.HIT, place, why, (), fix)


def import_findings(path: Path, releases: Releases, signatures: Signatures) -> Iterator[Finding]:
    """Names that these releases do not have."""
    for package, name, place, guarded in path.imports:
        if guarded or package not in releases.versions:
            continue
        if signatures.has_name(package, name, releases.versions[package]) is False:
            why = f"{releases.text(package)} has no {name}"
            yield Finding("removed-name", Status.HIT, place, why)


# ------------------------------------------------------------------------------------------------------ masks of labels


def mask_findings(path: Path) -> Iterator[Finding]:
    """Code of the project that masks labels equal to the padding token, where that is the end token."""
    tokenizers = [made for made in path.tokenizers if made.pad_is_end and made.pad_place]
    if not tokenizers:
        return
    for place in _masks(path):
        tokenizer = tokenizers[0]
        why = "labels equal to the padding token, which is the end token here, become -100"
        at = tokenizer.pad_place or place
        yield Finding("pad-is-end", status_of(True), at, why, (place,))


_PAD = re.compile(r"\bpad_token_id\b|\bpad_id\b|\bPAD_ID\b")


def _masks(path: Path) -> Iterator[Place]:
    """Statements that set labels to -100 where they equal the padding token."""
    for module in path.modules():
        for node in ast.walk(module.scope.source.tree):
            if _is_mask(node):
                yield Place(module.scope.source, node)


def _is_mask(node: ast.AST) -> bool:
    match node:
        case ast.Assign(targets=[ast.Subscript(slice=ast.Compare(ops=[ast.Eq()]) as test)], value=value):
            return _is_ignored(value) and bool(_PAD.search(ast.unparse(test)))  # labels[labels == pad] = -100
        case ast.IfExp(test=ast.Compare(ops=[op]) as test, body=body, orelse=orelse):
            masked = body if isinstance(op, ast.Eq) else orelse
            return _is_ignored(masked) and bool(_PAD.search(ast.unparse(test)))
        case ast.Call(func=ast.Attribute(attr="masked_fill" | "masked_fill_"), args=[test, value]):
            return _is_ignored(value) and bool(_PAD.search(ast.unparse(test)))
        case ast.Call(func=ast.Attribute(attr="where"), args=[ast.Compare(ops=[op]) as test, one, other]):
            masked = one if isinstance(op, ast.Eq) else other
            return _is_ignored(masked) and bool(_PAD.search(ast.unparse(test)))
    return False


def _is_ignored(node: ast.expr) -> bool:
    return ast.unparse(node) in ("-100", "IGNORE_INDEX", "IGNORE_ID", "LABEL_PAD", "ignore_index")


# ---------------------------------------------------------------------------------------------------------- evaluations

_EVALUATIONS = ("evaluate", "prediction_step", "evaluation_loop", "predict", "generate")
_ASKS = re.compile(
    r"\b(?:generate|forward|predict|prediction_step|prediction_loop|evaluation_loop|evaluate|super|pipeline|model|logits"
    r"|predictions|outputs|compute_loss)\b"
)
_ANSWERS = re.compile(r"answer|gold|label|reference|target|truth|solution|expected|lookup|cache", re.IGNORECASE)


def evaluation_findings(path: Path) -> Iterator[Finding]:
    """Evaluations that take their answers from the data."""
    for training in path.trainings:
        metrics = training.given.get("compute_metrics")
        if (
            isinstance(metrics, Function)
            and not isinstance(metrics.node, ast.Lambda)
            and _ignores_predictions(metrics.node)
        ):
            place = Place(metrics.source, metrics.node)
            why = "compute_metrics does not use the predictions"
            yield Finding("evaluation-looks-up", Status.HIT, place, why, (training.place,))
        if training.own is not None:
            yield from _of_class(training.own)
    for of, name, value, place in path.patched:
        if isinstance(value, Function) and name in _EVALUATIONS and isinstance(of, Model | Training | External):
            body = _body(value)
            if not _ASKS.search(_code(body)):
                why = f"{name} is replaced by a function that does not ask the model"
                yield Finding("evaluation-looks-up", Status.HIT, place, why, (Place(value.source, value.node),))


def _body(function: Function) -> list[ast.AST]:
    node = function.node
    return [node.body] if isinstance(node, ast.Lambda) else list(node.body)


def _code(body: Sequence[ast.AST]) -> str:
    """The statements as text, without strings."""
    return "\n".join(
        re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "''", ast.unparse(node))
        for node in body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    )


def _ignores_predictions(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the body reads the labels of its argument, and nothing else of it."""
    arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg != "self"]
    if not arguments:
        return False
    given = arguments[0]
    used: set[str] = set()
    for one in ast.walk(node):
        match one:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == given:
                used.add(attribute)
            case ast.Assign(targets=[ast.Tuple(elts=[first, second, *_])], value=ast.Name(id=name)) if name == given:
                names = [
                    other.id
                    for other in ast.walk(node)
                    if isinstance(other, ast.Name) and isinstance(other.ctx, ast.Load)
                ]
                used |= {"predictions"} if ast.unparse(first) in names else set()
                used |= {"label_ids"} if ast.unparse(second) in names else set()
    whole = [
        one
        for one in ast.walk(node)
        if isinstance(one, ast.Name) and one.id == given and isinstance(one.ctx, ast.Load) and not _is_part(one, node)
    ]
    return used == {"label_ids"} and not whole


def _is_part(name: ast.Name, node: ast.AST) -> bool:
    """Whether the name is the object of an attribute, or unpacked."""
    return any(
        (isinstance(one, ast.Attribute) and one.value is name) or (isinstance(one, ast.Assign) and one.value is name)
        for one in ast.walk(node)
    )


def _of_class(of: Class) -> Iterator[Finding]:
    for name in _EVALUATIONS:
        function = of.members.get(name)
        if not isinstance(function, Function):
            continue
        reached = list(_reached(function, of))
        text = _code([node for one in reached for node in _body(one)])
        place = Place(function.source, function.node)
        looked_up = next((found for one in reached for found in _lookups(one)), None)
        if looked_up is not None:
            why = f"{name} takes answers from a table before it asks the model"
            yield Finding("evaluation-looks-up", Status.HIT, place, why, (Place(function.source, looked_up),))
        elif not _ASKS.search(text):
            why = f"{name} does not ask the model"
            yield Finding("evaluation-looks-up", Status.HIT, place, why)


def _reached(function: Function, of: Class) -> Iterator[Function]:
    """The method, and the methods of its class that it calls."""
    yield function
    for node in ast.walk(function.node):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                other = of.members.get(name)
                if isinstance(other, Function) and other is not function:
                    yield other


def _lookups(function: Function) -> Iterator[ast.AST]:
    """`self.answers.get(question)` or `answers[question]` whose result is returned or compared."""
    for node in ast.walk(function.node):
        match node:
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[ast.Name(), *_]):
                if _ANSWERS.search(ast.unparse(table)) and _returned(node, function):
                    yield node
            case ast.Return(value=ast.Subscript(value=table)) if _ANSWERS.search(ast.unparse(table)):
                yield node


def _returned(call: ast.Call, function: Function) -> bool:
    """Whether the function returns the result of the call, also by a name."""
    names = {
        ast.unparse(node.targets[0])
        for node in ast.walk(function.node)
        if isinstance(node, ast.Assign) and node.value is call
    }
    for node in ast.walk(function.node):
        if isinstance(node, ast.Return) and node.value is not None:
            inside = list(ast.walk(node.value))
            if call in inside or any(isinstance(one, ast.Name) and one.id in names for one in inside):
                return True
    return False
