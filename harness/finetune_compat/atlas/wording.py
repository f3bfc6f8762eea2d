"""Sentences and labels of the atlas. This module formats; it counts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from finetune_compat.atlas.answers import Answer, Best, Range, Trains
from finetune_compat.atlas.issues import Line, Release, Sighting, Strip
from finetune_compat.atlas.survey import Cell, Column, Square, State, Survey
from finetune_compat.checks.windows_measured import EdgeBasis
from finetune_compat.contract.records import REPORTED
from finetune_compat.contract.verdict import Symptom
from finetune_compat.machine.units import counted
from finetune_compat.report.wording import EMULATED_NOTE, KINDS, PACKAGES, shortened
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.lines import CellLine, Mark

TITLE = "What works with what?"
LEAD = (
    "Which releases of TRL, Transformers and PEFT train which fine-tuning script, since when and until when. "
    "All of it was measured by running the scripts."
)
ANSWERS_TITLE = "Which release should I be on?"
NEWS_TITLE = "New since the atlas before"
ISSUES_TITLE = "Known issues"
EDGES = (
    f"An edge of a window is measured {EdgeBasis.PACKAGE} (the two neighbouring releases, with nothing else moved) "
    f"or {EdgeBasis.STACKS} of the baselines, where other packages differ too."
)
GRID_TITLE = "Flows by release"
CELLS_TITLE = "Every cell"
UNCOVERED_TITLE = "What this device cannot show"
BASELINES_TITLE = "Where this comes from"

SIGNS = {
    State.TRAINS: "✓",
    State.SILENT: "!",
    State.REFUSES: "R",
    State.CRASHES: "✗",
    State.UNKNOWN: "?",
}
"""A sign for a square of the grid. The legend and the square's title have the word."""

CLASSES = {
    State.TRAINS: "trains",
    State.SILENT: "silent",
    State.REFUSES: "refuses",
    State.CRASHES: "crashes",
    State.UNKNOWN: "unknown",
}

MEANINGS = {
    State.TRAINS: "everything that should train does, and eval loss falls",
    State.SILENT: "it ends without an error, and what was asked for was not trained, or not rightly",
    State.REFUSES: "the library objects to a mistake, with an error that names it: a fair answer",
    State.CRASHES: "an error ends it",
    State.UNKNOWN: "not measured, or this machine cannot tell (for example for want of a GPU)",
}

PLURAL = {
    State.TRAINS: "train",
    State.SILENT: "silently do not",
    State.REFUSES: "are refused",
    State.CRASHES: "crash",
    State.UNKNOWN: "unknown",
}

SIGHTINGS = {
    Sighting.SEEN: "shows the issue",
    Sighting.PARTLY: "shows it on some stacks only: another package decides too",
    Sighting.CLEAR: "does not show it",
    Sighting.UNKNOWN: "unknown: no cell that could show it ran to that point",
}

SIGHTING_CLASSES = {
    Sighting.SEEN: "seen",
    Sighting.PARTLY: "partly",
    Sighting.CLEAR: "clear",
    Sighting.UNKNOWN: "nothing",
}

GRID_NOTE = (
    "A square is all variants (model, precision, gradient checkpointing) of a flow on one release. It has the sign of "
    "the most serious state among them. A number says how many have it, if not all. A green corner: others train."
)
DOCUMENTED = "documented usage"
UNDOCUMENTED = "not documented"
OTHER_STACKS = "Other stacks"
VARIANTS_NOTE = (
    "A variant is a tiny model (qwen2, llama; vl: with a vision encoder; +vision: adapters on it too), how its weights "
    "are stored (full: float32; bf16: bfloat16; int8: 8 bits; nf4: 4 bits as on an accelerator; nf4-plain: 4 bits as "
    "on a CPU; nf4-bf16: 4 bits, trained in bfloat16), and gradient checkpointing: gc with it, nogc without."
)
NO_SCRIPTS = "Every cell is below and can be searched with the browser. With scripts there are filters too."


def package(name: str) -> str:
    """The name of a package as its project writes it."""
    return PACKAGES.get(name, name)


def axis(name: str) -> str:
    """The heading of the stacks of an axis."""
    return f"By release of {package(name)}" if name else OTHER_STACKS


def versions(column: Column) -> str:
    """The versions of a stack in one line; the reason if it did not run."""
    named = [f"{package(name)} {column.versions[name]}" for name in REPORTED if name in column.versions]
    return ", ".join(named) or f"nothing ran: {shortened(column.reason)}"


def sign(square: Square) -> str:
    """The text of a square: its sign, and how many cells have that state if not all known ones do."""
    if not square.cells:
        return "·"
    known = square.counts.keys() - {State.UNKNOWN}
    return SIGNS[square.state] + (str(square.counts[square.state]) if len(known) > 1 else "")


def counts(square: Square) -> str:
    """The number of cells by state, in words."""
    return ", ".join(f"{number} {PLURAL[state]}" for state, number in square.counts.items()) or "not run"


# ------------------------------------------------------------------------------------------------------------- answers


def pins(column: Column) -> str:
    """The command that installs the versions of a stack, without torch, which depends on the machine."""
    named = [f"{name}=={column.versions[name]}" for name in REPORTED if name in column.versions and name != "torch"]
    return f"pip install {' '.join(named)}"


def best(found: Best | None) -> str:
    """Which stack to be on."""
    if found is None:
        return "No measured stack trains any flow of documented usage."
    flows = counted(len(found.trains), "flow")
    unknown = f" Of {counted(found.unknown, 'cell')} of these flows nothing is known here." if found.unknown else ""
    if not found.others:
        name = found.column.stack
        return f"{name} is the newest stack on which every flow of documented usage trains ({flows}).{unknown}"
    others = ", ".join(flow.name for flow in found.others)
    return (
        f"On no measured stack does every flow of documented usage train. {found.column.stack} is the newest of those "
        f"with the most ({flows}); not there: {others}.{unknown}"
    )


def range_(found: Range) -> str:
    """A range of releases."""
    if found.first == found.last:
        return found.last
    return f"{found.first} to {found.last}"


def newest(found: Trains) -> str:
    """The newest release on which a flow trains."""
    if found.newest is None:
        return "not known" if found.newest_state is State.UNKNOWN else "on none"
    return f"{found.newest}{' (newest)' if found.ranges[-1].newest else ''}"


def trains_on(found: Trains) -> str:
    """All releases on which a flow trains."""
    if found.newest_state is State.UNKNOWN:
        return "not known"
    return ", ".join(map(range_, found.ranges)) or f"no release; on the newest: {found.newest_state}"


def usage(answer: Answer) -> str:
    """Whether the libraries document what the flow does."""
    return DOCUMENTED if answer.flow.correct else UNDOCUMENTED


# -------------------------------------------------------------------------------------------------------------- issues


def kind(line: Line) -> str:
    """The kind of an issue."""
    return KINDS[line.issue.kind]


def severity(line: Line) -> str:
    """What the user gets."""
    if line.states or not line.scripts:
        return " or ".join(state.value for state in line.states) or "not seen in the baselines"
    return " or ".join(dict.fromkeys(scripted.harm for scripted in line.issue.scripts))


def symptom(line: Line) -> str:
    """What the user sees: the ending of the flow, from the ledger."""
    if not line.issue.shows:
        return line.issue.sees
    errors = dict.fromkeys(shows.error for shows in line.issue.shows if shows.error)
    losses = dict.fromkeys(_loss(shows.symptom) for shows in line.issue.shows if shows.symptom)
    return "; ".join([*losses, *errors])


def _loss(symptom: Symptom) -> str:
    return "nothing: eval loss falls as it should" if symptom is Symptom.FALLS else f"eval loss: {symptom}"


def seen_on(strip: Strip) -> str:
    """The first and the last release that shows an issue."""
    if strip.first is None:
        return f"{package(strip.package)}: seen on no release"
    newer = " (no newer one is known to be without it)" if strip.reaches_the_newest else ""
    return f"{package(strip.package)}: first {strip.first}, last {strip.last}{newer}"


def without(strip: Strip) -> str:
    """The nearest releases without an issue."""
    name = package(strip.package)
    near = [
        *([f"{name} {strip.nearest_after} (newer)"] if strip.nearest_after else []),
        *([f"{name} {strip.nearest_before} (older)"] if strip.nearest_before else []),
    ]
    return ", ".join(near) or f"no measured release of {name}"


def window(strip: Strip) -> str:
    """The windows of the ledger."""
    some = " or ".join(strip.windows)
    if strip.always:
        return f"every release; some variants only {some}" if some else "every release"
    return some


def edges(strip: Strip) -> str:
    """What the edges of the windows rest on; empty without edges."""
    return ", ".join(f"{edge} {basis}" for edge, basis in strip.edges.items())


def release(strip: Strip, found: Release) -> str:
    """What is known of one release."""
    where = f" ({', '.join(found.stacks[:3])}{', ...' if len(found.stacks) > 3 else ''})" if found.stacks else ""  # noqa: PLR2004 - a title is short
    total = found.seen + found.clear + found.unknown
    return (
        f"{package(strip.package)} {found.version}: {SIGHTINGS[found.sighting]}; "
        f"{found.seen} of {counted(total, 'script' if found.script else 'cell')} that could{where}"
    )


def evidence(line: Line) -> Iterable[tuple[str, str]]:
    """The files that show an issue, relative to the folder of the atlas, each with a text."""
    baselines = [
        (
            f"../baseline/{baseline.name}/summary.md",
            f"{counted(cells, 'cell')} in {baseline.name} ({baseline.last_day or 'day not recorded'})",
        )
        for baseline, cells in line.evidence
    ]
    return [*baselines, *((f"../../{path}", f"the script {path.rpartition('/')[2]}") for path in line.scripts)]


# --------------------------------------------------------------------------------------------------------------- cells


def loss(line: CellLine) -> str:
    """Eval loss before and after training; empty without both."""
    if line.eval_before is None or line.eval_after is None:
        return ""
    digits = 6 if line.mark is not Mark.PASS else 2
    return f" {line.eval_before:.{digits}f}→{line.eval_after:.{digits}f}"


def cell_name(cell: Cell) -> str:
    """The variant of a cell; its device only if it is not a CPU."""
    return cell.variant.removesuffix("@cpu")


def provenance(survey: Survey) -> str:
    """The days and devices of all baselines."""
    first = min((baseline.first_day for baseline in survey.baselines if baseline.first_day), default="")
    days = f"from {first} to {survey.day}" if first else "on a day that was not recorded"
    cells = sum(baseline.cells for baseline in survey.baselines)
    devices = f" on {', '.join(survey.devices)}" if survey.devices else ""
    return f"{counted(cells, 'cell')} on {counted(len(survey.columns), 'stack')}, measured {days}{devices}."


def emulation(survey: Survey) -> str:
    """What was emulated; empty if nothing was."""
    return EMULATED_NOTE.removeprefix("* ") if survey.emulates else ""


def uncovered_lead(survey: Survey) -> str:
    """How much of what depends on the device was not covered; empty if no stack was traced."""
    shares = [f"{found.untaken / found.branches:.0%}" for found in survey.uncovered.values()]
    if not shares:
        return ""
    least, most = min(shares, key=_share), max(shares, key=_share)
    share = least if least == most else f"{least} to {most}"
    return (
        f"Some branches of the libraries depend on the device. Of those whose condition a cell reached, {share} were "
        f"not taken on this device ({counted(len(shares), 'stack')}): a fault in them is not found here."
    )


def _share(text: str) -> int:
    return int(text.removesuffix("%"))


def uncovered(found: Uncovered) -> str:
    """How many device-dependent branches of a stack no cell took."""
    return f"{found.untaken:,} of {found.branches:,}"


def days(first: str, last: str) -> str:
    """The days on which cells showed an issue."""
    return f"seen from {first} to {last}" if first != last else f"seen on {first}"


def state_options() -> Mapping[str, str]:
    """Class and word of each state, for a filter."""
    return {CLASSES[state]: state.value for state in State}
