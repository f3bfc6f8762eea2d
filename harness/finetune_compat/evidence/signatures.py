"""Writes `matrices/signatures.json`: what each locked release accepts, read from the source in its wheel.

    python -m finetune_compat.evidence.signatures            exit code 1 if the file lacks a locked release
    python -m finetune_compat.evidence.signatures --write    download the wheels, and write it

Nothing of a wheel is imported or installed.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from finetune_compat.audit.signatures import ANY, SIGNATURES
from finetune_compat.contract.errors import ExitCode, InstallError
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix

READ: Mapping[str, Sequence[str]] = {
    "transformers": (
        "TrainingArguments",
        "Seq2SeqTrainingArguments",
        "Trainer",
        "Seq2SeqTrainer",
        "BitsAndBytesConfig",
        "DataCollatorForLanguageModeling",
        "DataCollatorForSeq2Seq",
    ),
    "peft": (
        "LoraConfig",
        "get_peft_model",
        "prepare_model_for_kbit_training",
        "PeftModel.from_pretrained",
    ),
    "trl": (),
}
"""Public callables by package. Of TRL: every trainer and every configuration that it exports."""

_OF_TRL = re.compile(r"[A-Z]\w*(?:Trainer|Config)")
_FILES = {
    "transformers": re.compile(
        r"transformers/(?:trainer|training_args|trainer_seq2seq|training_args_seq2seq|trainer_utils"
        r"|data/data_collator|utils/quantization_config)\.py"
    ),
    "peft": re.compile(r"peft/(?:__init__|config|peft_model|mapping\w*|utils/\w+|tuners/lora/config)\.py"),
    "trl": re.compile(r"trl/(?:__init__|trainer/\w+|extras/\w+|models/\w+|core)\.py"),
}
"""The files with these callables and their bases, and the package's names."""

_NAMED = ("trl", "peft")
"""Packages whose names are recorded. Transformers makes most of its own at runtime."""

Spans = dict[str, list[list[int]]]
Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Release:
    """What the wheel of one release says."""

    callables: Mapping[str, Sequence[str]]
    bases: Mapping[str, Sequence[str]]
    names: Sequence[str]


def main(arguments: Sequence[str]) -> ExitCode:
    """Compare the file with the locks, or write it."""
    parser = argparse.ArgumentParser(prog="python -m finetune_compat.evidence.signatures")
    parser.add_argument("--write", action="store_true", help="download the wheels of all locked releases")
    parser.add_argument("--wheels", type=Path, help="directory with the wheels, in place of a download")
    options = parser.parse_args(arguments)
    path = places().the_checkout(f"matrices/{SIGNATURES}") / "matrices" / SIGNATURES
    wanted = locked_releases()
    if options.write:
        if options.wheels:
            text = as_text(wanted, options.wheels)
        else:
            with tempfile.TemporaryDirectory(prefix="compat-wheels-") as folder:
                download(wanted, Path(folder))
                text = as_text(wanted, Path(folder))
        write_atomically(path, text)
        return ExitCode.HEALTHY
    known = json.loads(path.read_bytes())["releases"] if path.exists() else {}
    missing = [
        f"{name} {version}"
        for name, all_of in wanted.items()
        for version in all_of
        if version not in known.get(name, ())
    ]
    if missing:
        print(f"{path}: lacks {', '.join(missing)}. Write it: python -m finetune_compat.evidence.signatures --write")
    return ExitCode.UNHEALTHY if missing else ExitCode.HEALTHY


def locked_releases() -> dict[str, list[str]]:
    """The releases in the locks of the matrix, by package, from old to new."""
    matrix = read_matrix()
    locks = [locked(plan) for stack in matrix.stacks for plan in matrix.plans(stack)]
    pins = {
        (name, version)
        for lock in locks
        if not isinstance(lock, Unsolvable)
        for name, version in lock.requirements.items()
    }
    return {package: sorted({version for name, version in pins if name == package}, key=Version) for package in READ}


def download(releases: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Download the wheels, without what they require.

    Raises:
        InstallError: pip failed.
    """
    for package, versions in releases.items():
        for version in versions:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            done = subprocess.run(
                [*command, "--dest", str(folder), f"{package}=={version}"], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise InstallError(
                    f"the wheel of {package} {version} was not downloaded",
                    where="pip download",
                    meaning=done.stderr.strip(),
                    todo="Run the command again, or name a directory that has it with --wheels.",
                )


def as_text(releases: Mapping[str, Sequence[str]], wheels: Path) -> str:
    """The content of the file."""
    callables: dict[str, Spans] = {}
    bases: dict[str, Spans] = {}
    names: dict[str, Spans] = {}
    for package, versions in releases.items():
        for place, version in enumerate(versions):
            release = read_wheel(next(wheels.glob(f"{package}-{version}-*.whl")), package)
            for name, arguments in release.callables.items():
                _extend(callables.setdefault(f"{package}.{name}", {}), arguments, place)
            for name, others in release.bases.items():
                _extend(bases.setdefault(f"{package}.{name}", {}), others, place)
            if package in _NAMED:
                _extend(names.setdefault(package, {}), release.names, place)
    content = {"releases": releases, "callables": callables, "bases": bases, "names": names}
    # One line for each argument: a new release then changes few lines.
    return (
        re.sub(
            r"\[\s+([\d\[\], \n]+?)\s+\]",
            lambda found: f"[{' '.join(found[1].split())}]",
            json.dumps(content, indent=1),
        )
        + "\n"
    )


def _extend(spans: Spans, found: Sequence[str], place: int) -> None:
    for name in found:
        known = spans.setdefault(name, [])
        if known and known[-1][1] == place - 1:
            known[-1][1] = place
        else:
            known.append([place, place])


# ------------------------------------------------------------------------------------------------------------ one wheel


def read_wheel(wheel: Path, package: str) -> Release:
    """The callables, bases and names of one release."""
    modules = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if _FILES[package].fullmatch(name):
                modules[name] = ast.parse(archive.read(name))
    names = exported(modules[f"{package}/__init__.py"]) if package in _NAMED else ()
    wanted = READ[package] or tuple(name for name in names if _OF_TRL.fullmatch(name))
    defined: dict[str, Definition] = {
        node.name: node
        for module in modules.values()
        for node in module.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    callables, bases = {}, {}
    for name in wanted:
        arguments, others = _signature(name, defined)
        if arguments:
            callables[name], bases[name] = tuple(dict.fromkeys(arguments)), others
    return Release(callables, {name: others for name, others in bases.items() if others}, names)


def exported(module: ast.Module) -> tuple[str, ...]:
    """The names that an `__init__` imports or lists in `_import_structure`."""
    found: dict[str, None] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {alias.asname or alias.name: None for alias in node.names}
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            lists = [value for value in node.value.values if isinstance(value, ast.List)]
            texts = [one for value in lists for one in value.elts if isinstance(one, ast.Constant)]
            found |= {str(one.value): None for one in texts}
    return tuple(name for name in found if not name.startswith("_"))


def _signature(name: str, defined: Mapping[str, Definition]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments of a callable, and its bases in other packages whose arguments it takes too."""
    owner, _, method = name.partition(".")
    node = defined.get(owner)
    if isinstance(node, ast.FunctionDef):
        return _arguments(node), ()
    if node is None:
        return [], ()
    if method:
        found = _method(node, method)
        return (_arguments(found)[1:] if found else []), ()
    return _of_class(node, defined)


def _of_class(node: ast.ClassDef, defined: Mapping[str, Definition]) -> tuple[list[str], tuple[str, ...]]:
    init = _method(node, "__init__")
    if init is not None:
        return _arguments(init)[1:], ()
    own = list(_fields(node)) if _is_dataclass(node) else []
    others: tuple[str, ...] = ()
    for base in node.bases:
        text = ast.unparse(base).rpartition(".")[2]
        inside = defined.get(text)
        if isinstance(inside, ast.ClassDef):
            inherited, further = _of_class(inside, defined)
            own, others = [*inherited, *own], (*others, *further)
        elif text in READ["transformers"]:
            others = (*others, f"transformers.{text}")
    return own, others


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            value = ast.unparse(one.value) if one.value else ""
            if "ClassVar" not in ast.unparse(one.annotation) and "init=False" not in value:
                yield one.target.id


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == name), None)


def _arguments(node: ast.FunctionDef) -> list[str]:
    given = node.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [*names, *_former(node), *([ANY] if given.kwarg else [])]


def _former(node: ast.FunctionDef) -> Iterator[str]:
    """Old names that a decorator still accepts: `@deprecate_kwarg("tokenizer", new_name="processing_class")`."""
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "deprecate_kwarg" and decorator.args:
            first = decorator.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
