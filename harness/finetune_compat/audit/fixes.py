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
        return updated_node if fix is None else updated_node.with_changes(args=_arguments(updated_node, fix))


def _arguments(call: cst.Call, fix: Fix) -> list[cst.Arg]:
    changed: list[cst.Arg] = []
    missing = dict(fix.add)
    for one in call.args:
        name = one.keyword.value if one.keyword else ""
        if name in fix.remove:
            continue
        if name in fix.rename:
            one = one.with_changes(keyword=cst.Name(fix.rename[name]))  # noqa: PLW2901 - the argument, changed
        elif name in missing:
            one = one.with_changes(value=cst.parse_expression(missing.pop(name)))  # noqa: PLW2901 - likewise
        changed.append(one)
    if missing:
        return _appended(changed, missing, call.whitespace_before_args)
    return _without_last_comma(changed, call.args)


def _appended(
    before: list[cst.Arg], missing: dict[str, str], first: cst.BaseParenthesizableWhitespace
) -> list[cst.Arg]:
    """`before` and new keyword arguments in their layout. `first` is the space before the first argument."""
    inner = next((one.comma.whitespace_after for one in before[:-1] if isinstance(one.comma, cst.Comma)), first)
    between = _without_comment(inner) if isinstance(inner, cst.ParenthesizedWhitespace) else cst.SimpleWhitespace(" ")
    made = [
        cst.Arg(
            cst.parse_expression(text),
            keyword=cst.Name(name),
            equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
            comma=cst.Comma(whitespace_after=between),
        )
        for name, text in missing.items()
    ]
    if not before:
        made[-1] = made[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return made
    last, end = before[-1], before[-1].comma
    comma = cst.Comma(whitespace_after=between)
    if isinstance(end, cst.Comma) and isinstance(after := end.whitespace_after, cst.ParenthesizedWhitespace):
        # A comment after the last argument stays there.
        comma = end.with_changes(whitespace_after=after.with_changes(last_line=_indentation(between)))
        end = end.with_changes(whitespace_after=_without_comment(after))
    made[-1] = made[-1].with_changes(comma=end, whitespace_after_arg=last.whitespace_after_arg)
    return [*before[:-1], last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace("")), *made]


def _without_comment(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])


def _indentation(space: cst.BaseParenthesizableWhitespace) -> cst.SimpleWhitespace:
    return space.last_line if isinstance(space, cst.ParenthesizedWhitespace) else cst.SimpleWhitespace("")


def _without_last_comma(changed: list[cst.Arg], before: Sequence[cst.Arg]) -> list[cst.Arg]:
    """The end of the list as it was, if the last argument was removed."""
    if changed and before:
        changed[-1] = changed[-1].with_changes(comma=before[-1].comma)
    return changed
