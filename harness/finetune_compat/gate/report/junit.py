"""The answer as JUnit XML: one test case per cell, a failure where the policy answers HOLD or BLOCK."""

from __future__ import annotations

from typing import assert_never
from xml.etree import ElementTree as ET

from finetune_compat.gate.decision import CellChange, Decision, Gate
from finetune_compat.gate.report import wording
from finetune_compat.report import wording as said
from finetune_compat.report.junit import seconds, xml


def render(gate: Gate) -> str:
    """One suite. Cells that are equal or better pass; worse cells that the policy allows are skipped with a reason."""
    causes = {name: cause for cause in gate.causes for name in cause.cells}
    cases = []
    for cell in gate.cells:
        cause = causes.get(cell.name)
        advice = wording.cause_advice(cause, gate) if cause else ()
        cases.append(_case(cell, advice, gate))
    kinds = [case[0].tag if len(case) else "" for case in cases]
    if gate.decision is not Decision.ALLOW and not {"failure", "error"} & set(kinds):
        # CI reads the counts only, and treats a suite without failures and errors as passed.
        cases.append(_of_the_whole(gate))
        kinds.append("error")
    suite = ET.Element(
        "testsuite",
        name=f"{gate.before.asked} to {gate.after.asked}",
        tests=str(len(cases)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=seconds(sum(side.line.duration_s for cell in gate.cells for side in (cell.before, cell.after) if side)),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("decision", str(gate.decision)), ("reason", gate.reason), ("command", gate.command)):
        ET.SubElement(properties, "property", name=name, value=value)
    suite.extend(cases)
    root = ET.Element("testsuites", name="finetune-compat gate")
    root.append(suite)
    return xml(root)


def _of_the_whole(gate: Gate) -> ET.Element:
    case = ET.Element("testcase", classname="gate", name=str(gate.decision), time=seconds(0.0))
    text = f"run it again: {gate.command}"
    ET.SubElement(case, "error", type=str(gate.decision), message=gate.reason).text = text
    return case


def _case(cell: CellChange, advice: tuple[str, ...], gate: Gate) -> ET.Element:
    time = cell.after.line.duration_s if cell.after else 0.0
    case = ET.Element("testcase", classname=cell.flow, name=cell.name, time=seconds(time))
    text = f"{cell.effect}: {cell.change}: {said.shortened(_reason(cell))}{wording.rests([cell.name], gate)}"
    match cell.effect:
        case Decision.ALLOW if not wording.bad(cell.change):
            pass
        case Decision.ALLOW:
            by = f" Allowed by exception: {cell.exception}." if cell.exception else ""
            ET.SubElement(case, "skipped", type=str(cell.change), message=text + by)
        case Decision.HOLD | Decision.BLOCK:
            ET.SubElement(case, "failure", type=str(cell.change), message=text).text = _details(cell, advice, gate)
        case Decision.COULD_NOT_TELL:
            ET.SubElement(case, "error", type=str(cell.change), message=text).text = _details(cell, advice, gate)
        case _:
            assert_never(cell.effect)
    return case


def _reason(cell: CellChange) -> str:
    side = cell.after or cell.before
    lines = wording.drift_lines(cell)
    return "; ".join(lines) or (side.verdict.reason if side else "neither side has this cell")


def _details(cell: CellChange, advice: tuple[str, ...], gate: Gate) -> str:
    """The text of a test case, complete for a reader who sees only this case."""
    line = cell.after.line if cell.after else None
    mark = wording.rests([cell.name], gate)
    seen = [_reason(cell), *(f"frozen by {said.chain(frames)}" for frames in (line.freezes if line else ()))]
    seen += [said.error(line.error)] if line and line.error else []
    lines = [f"{text}{mark}" for text in seen]
    lines += [f"to do: {text}" for text in advice]
    lines += [" ".join(part for part in row if part) for row in wording.differences(cell, gate)]
    return "\n".join(
        [
            *lines,
            f"run it again: {cell.again}",
            *(line.links if line else ()),
            *([said.EMULATED_NOTE] if mark else []),
        ]
    )
