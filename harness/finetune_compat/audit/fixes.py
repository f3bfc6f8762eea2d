"""Changes of calls as a diff to look at. Files are never written."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from finetune_compat.audit.findings import Finding, Fix
from finetune_compat.audit.sources import Source


def diff(source: Source, findings: Sequence[Finding]) -> str:
    """A unified diff that applies the fixes in `source`; empty if there is none, and for notebooks."""
    fixes = [one.fix for one in findings if one.fix and one.place.source is source]
    if not fixes or source.cells:
        return ""
    wrapper = MetadataWrapper(cst.parse_module(source.text))
    text = wrapper.visit(_Change({_start(source, fix): fix for fix in fixes})).code
    name = source.shown
    lines = difflib.unified_diff(
        source.text.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _start(source: Source, fix: Fix) -> tuple[int, int]:
    """Line and column of the call, the column in characters."""
    line, offset = fix.node.lineno, fix.node.col_offset  # type: ignore[attr-defined]
    encoded = source.text.split("\n")[line - 1].encode()
    return line, len(encoded[:offset].decode(errors="ignore"))


class _Change(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, fixes: dict[tuple[int, int], Fix]) -> None:
        super().__init__()
        self._fixes = fixes

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        at = self.get_metadata(PositionProvider, original_node).start
        fix = self._fixes.pop((at.line, at.column), None)
        return updated_node if fix is None else updated_node.with_changes(args=_arguments(updated_node.args, fix))


def _arguments(arguments: Sequence[cst.Arg], fix: Fix) -> list[cst.Arg]:
    changed: list[cst.Arg] = []
    missing = dict(fix.add)
    for one in arguments:
        name = one.keyword.value if one.keyword else ""
        if name in fix.remove:
            continue
        if name in fix.rename:
            one = one.with_changes(keyword=cst.Name(fix.rename[name]))  # noqa: PLW2901 - the argument, changed
        elif name in missing:
            one = one.with_changes(value=cst.parse_expression(missing.pop(name)))  # noqa: PLW2901 - likewise
        changed.append(one)
    return [*changed, *_appended(changed, missing)] if missing else _without_last_comma(changed, arguments)


def _appended(before: list[cst.Arg], missing: dict[str, str]) -> list[cst.Arg]:
    """New keyword arguments in the layout of those before."""
    last = before[-1] if before else None
    comma = next((one.comma for one in before if isinstance(one.comma, cst.Comma)), None)
    end = last.comma if last is not None else cst.MaybeSentinel.DEFAULT
    if last is not None and not isinstance(end, cst.Comma):
        before[-1] = last.with_changes(comma=comma or cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")))
    elif last is not None and isinstance(comma, cst.Comma):
        before[-1] = last.with_changes(comma=comma)
    made = [
        cst.Arg(
            cst.parse_expression(text),
            keyword=cst.Name(name),
            equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
            comma=comma or cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")),
        )
        for name, text in missing.items()
    ]
    made[-1] = made[-1].with_changes(comma=end)
    return made


def _without_last_comma(changed: list[cst.Arg], before: Sequence[cst.Arg]) -> list[cst.Arg]:
    """The end of the list as it was, if the last argument was removed."""
    if changed and before:
        changed[-1] = changed[-1].with_changes(comma=before[-1].comma)
    return changed
