"""The faults of a ledger whose file is well-formed: what no cell could ever show, or what says too little."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from finetune_compat.checks import Symptom
from finetune_compat.checks.codes import CODES, ENDING
from finetune_compat.checks.ledger import FREEZING, Issue, Place, Scripted, Signature
from finetune_compat.checks.measures import MEASURES
from finetune_compat.contract.catalog import CATALOG, MODELS
from finetune_compat.contract.errors import Fault
from finetune_compat.contract.records import REPORTED

_CHAIN = re.compile(r"[\w./-]+\.py::[\w<>]+( -> [\w./-]+\.py::[\w<>]+)*")
_PUBLIC = re.compile(r"[a-z]\w*(\.[A-Za-z]\w*)+")
_TYPED = re.compile(r"[A-Za-z_]\w*: .+", re.DOTALL)


def ledger_faults(issues: tuple[Issue, ...], places: tuple[Place, ...]) -> list[Fault]:
    """Unknown names, invalid windows and missing evidence, each with its place in the file: places first."""
    return [*_place_faults(places), *_issue_faults(issues, {place.name for place in places})]


def _issue_faults(issues: tuple[Issue, ...], places: AbstractSet[str]) -> list[Fault]:
    faults = []
    for i, issue in enumerate(issues):
        if [other.id for other in issues].index(issue.id) != i:
            faults.append(Fault(f"issue[{i}].id", f"{issue.id!r} is used twice"))
        if not issue.ways:
            faults.append(Fault(f"issue[{i}].shows", "no cell and no script shows it: the issue would apply nowhere"))
        faults += [Fault(f"issue[{i}].{field}", problem) for field, problem in _text_faults(issue)]
        for j, signature in enumerate(issue.shows):
            at = f"issue[{i}].shows[{j}]"
            found = (*_signature_faults(signature), *_evidence_faults(signature, places))
            faults += [Fault(f"{at}.{field}", problem) for field, problem in found]
        for j, scripted in enumerate(issue.scripts):
            at = f"issue[{i}].scripts[{j}]"
            faults += [Fault(f"{at}.{field}", problem) for field, problem in _script_faults(scripted)]
    return faults


def _script_faults(scripted: Scripted) -> Iterator[tuple[str, str]]:
    if not scripted.script.isidentifier():
        yield "script", f"{scripted.script!r} is not the name of a script in tests/exam/issues (without .py)"
    yield from _error_faults(scripted.error)
    yield from _window_faults(scripted.windows)


def _error_faults(error: str | None) -> Iterator[tuple[str, str]]:
    if error is not None and not _TYPED.fullmatch(error):
        yield "error", f"{error!r} does not begin with the type (such as ValueError: no labels)"


def _text_faults(issue: Issue) -> Iterator[tuple[str, str]]:
    """Texts that tables and advisories show in one line."""
    for field, text in (("title", issue.title), ("remedy", issue.remedy), ("needs", issue.needs), ("sees", issue.sees)):
        if not text.strip() or "\n" in text:
            yield field, "is empty or has more than one line"
    if not issue.imports:
        yield "imports", "names nothing that affected code uses (such as trl.SFTTrainer)"
    for name in issue.imports:
        if not _PUBLIC.fullmatch(name):
            yield "imports", f"{name!r} is not a public name of a library (such as trl.SFTTrainer)"


def _place_faults(places: tuple[Place, ...]) -> list[Fault]:
    faults = []
    for i, place in enumerate(places):
        found = _window_faults(place.windows)
        if not _CHAIN.fullmatch(place.chain):
            found.append(("chain", _no_chain(place.chain)))
        faults += [Fault(f"place[{i}].{field}", problem) for field, problem in found]
    return faults


def _no_chain(text: str) -> str:
    return f"{text!r} is not a call chain (such as trl/models/utils.py::prepare -> peft/utils/other.py::freeze)"


def _signature_faults(signature: Signature) -> list[tuple[str, str]]:
    flows = {flow.name for flow in CATALOG}
    faults = [("flows", f"there is no flow {name!r}") for name in signature.flows if name not in flows]
    faults += [] if signature.flows else [("flows", "names no flow: the entry would apply nowhere")]
    faults += [("models", f"there is no model {name!r}") for name in signature.models if name not in MODELS]
    if signature.feature == "":
        faults.append(("feature", "is empty: it would match everything"))
    if signature.symptom in (Symptom.ERROR, Symptom.UNKNOWN):
        faults.append(("symptom", f"{signature.symptom} is not a valid symptom here; name an error with `error`"))
    return faults + _window_faults(signature.windows)


def _evidence_faults(signature: Signature, places: AbstractSet[str]) -> list[tuple[str, str]]:
    """A signature must say enough to be told from another fault of the same check."""
    if signature.check not in CODES:
        return [("check", f"there is no check {signature.check!r}")]
    faults = []
    if not (signature.error or signature.symptom):
        faults.append(("check", "no ending to look for: name an error or a symptom"))
    faults += _error_faults(signature.error)
    if (signature.error is None) != (signature.raised is None):
        faults.append(("raised", "an error needs the call chain that raised it, and only an error has one"))
    if (signature.error is None) != (signature.stage is None):
        faults.append(("stage", "an error needs the stage at which it is raised, and only an error has one"))
    if signature.check in FREEZING and signature.froze is None:
        faults.append(("froze", f"{', '.join(FREEZING)} need the call chain that froze"))
    if signature.froze is not None and signature.check not in (*FREEZING, ENDING):
        faults.append(("froze", f"only {', '.join(FREEZING)} and {ENDING} have a call chain that froze"))
    if signature.apart is not None and (signature.check != "G402" or signature.measured is not None):
        faults.append(("apart", "only G402 has it, in place of the measured value"))
    elif signature.apart is None and (signature.check in MEASURES) != (signature.measured is not None):
        faults.append(("measured", f"{', '.join(MEASURES)} need the measured value, and only they have one"))
    if (signature.check == "G401") != (signature.area is not None):
        faults.append(("area", "G401 needs the area without gradients, and only it has one"))
    chains = (("froze", signature.froze), ("raised", signature.raised))
    faults += [
        (field, f"there is no place {text!r}, and {_no_chain(text)}")
        for field, text in chains
        if text is not None and text not in places and not _CHAIN.fullmatch(text)
    ]
    return faults


def _window_faults(windows: Mapping[str, str]) -> list[tuple[str, str]]:
    faults = []
    for name, window in windows.items():
        if name not in REPORTED:
            faults.append(
                (f"windows.{name}", f"observations do not record {name!r}; they record {', '.join(REPORTED)}")
            )
        try:
            SpecifierSet(window)
        except InvalidSpecifier:
            faults.append(
                (f"windows.{name}", f"{window!r} is not a valid version specifier (such as >=0.20.0,<0.23.1)")
            )
    return faults
