"""The report as JUnit XML, for CI systems with their own tables.

A stack that cannot be installed is `skipped`, like a listed deviation. With `error`, a CI system would fail where the
command itself does not, and no change to the code under test could correct that. `passed` would be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never
from xml.etree import ElementTree as ET

from finetune_compat.checks import Outcome
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.foreign_text import inert
from finetune_compat.report import wording
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine
from finetune_compat.results.summary import StackSummary, Summary


def render(summary: Summary) -> str:
    """The whole run: one suite per stack, one case per cell."""
    root = ET.Element("testsuites", name="finetune-compat")
    for stack in summary.stacks:
        root.append(_suite(stack))
    if summary.left_out:
        root.append(_left_out(summary.left_out))
    return xml(root)


def _left_out(cells: Sequence[str]) -> ET.Element:
    suite = ET.Element("testsuite", name="left out", tests=str(len(cells)), skipped=str(len(cells)))
    for cell in cells:
        found = parse_cell(cell)
        case = ET.SubElement(suite, "testcase", classname=found.stack, name=found.name)
        ET.SubElement(case, "skipped", type="left-out", message=wording.LEFT_OUT)
    return suite


def _suite(stack: StackSummary) -> ET.Element:
    tally = stack.tally
    suite = ET.Element(
        "testsuite",
        name=stack.name,
        tests=str(len(stack.lines)),
        failures=str(tally.failed),
        errors=str(tally.by_the_machine),
        skipped=str(tally.xfailed + tally.uninstallable),
        time=seconds(stack.duration_s),
    )
    if stack.versions:
        properties = ET.SubElement(suite, "properties")
        for name, version in sorted({**stack.versions, "python": stack.python, "device": stack.device}.items()):
            ET.SubElement(properties, "property", name=name, value=version)
    causes = {cell: group for group in stack.groups for cell in group.cells}
    for line in stack.lines:
        suite.append(_case(stack.name, line, causes.get(line.cell)))
    return suite


def _case(stack: str, line: CellLine, cause: Group | None) -> ET.Element:
    name = parse_cell(line.cell).name or "environment"
    case = ET.Element("testcase", classname=stack, name=name, time=seconds(line.duration_s))
    reason = wording.shortened(line.reason)
    match line.outcome:
        case Outcome.PASS:
            pass
        case Outcome.XFAIL:
            kind = f"{wording.KINDS[line.kind]}: " if line.kind else ""
            ET.SubElement(case, "skipped", type="pytest.xfail", message=f"{kind}{reason}")
        case Outcome.UNINSTALLABLE:
            ET.SubElement(case, "skipped", type="uninstallable", message=reason)
        case Outcome.FAIL:
            ET.SubElement(case, "failure", message=reason).text = _details(line, cause)
        case Outcome.INFRASTRUCTURE:
            ET.SubElement(case, "error", type="infrastructure", message=reason).text = _details(line, cause)
        case _:
            assert_never(line.outcome)
    return case


def _details(line: CellLine, cause: Group | None) -> str:
    """All details of a case, for a developer who sees only this case."""
    details = [line.reason, *(f"frozen by {wording.chain(frames)}" for frames in line.freezes)]
    details += [wording.error(line.error)] if line.error else []
    details += [f"to do: {advice}" for advice in (wording.cause_advice(cause) if cause else ())]
    return "\n".join([*details, *line.links])


def seconds(duration: float) -> str:
    """A duration in the format of JUnit."""
    return f"{duration:.3f}"


def xml(root: ET.Element) -> str:
    """The document of `root`. Its texts are inert, and of characters that XML can represent."""
    for element in root.iter():
        element.attrib.update({name: _writable(value) for name, value in element.attrib.items()})
        element.text = element.text and _writable(element.text)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _writable(text: str) -> str:
    # Of the characters that XML cannot represent, `inert` leaves these two.
    return inert(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
