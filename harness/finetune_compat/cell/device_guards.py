"""Find device-dependent conditions in the source of a function, and the bytecode jumps that decide on them."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from finetune_compat.contract.branches import Accelerator

_CUDA = re.compile(
    r"cuda|triton|get_device_capability|n_gpu\b|on_gpu\b|use_cpu\b|is_torch_accelerator"
    r"|(?:bf16|fp16|tf32|fp8|flash_attn)\w*_(?:available|supported)"
)
"""In dotted names: what a CUDA GPU decides."""

_OTHER = re.compile(
    r"(?:^|[._])(?:xpu|npu|mps|mlu|musa|hpu|sdaa|xla|tpu|neuron|neuroncore|gaudi\d?|hip|rocm)(?:[._]|$)"
)
"""In dotted names: what accelerators of other makers decide."""

_PREDICATE = re.compile(r"(?:^|[._])(?:is|has|supports|device_count|get_device_capability)(?:_\w*)?$")
"""Names of functions whose value is a condition."""

_CUDA_DEVICES = frozenset({"cuda", "cpu", "gpu"})
_OTHER_DEVICES = frozenset({"xpu", "npu", "mps", "mlu", "musa", "hpu", "sdaa", "xla", "tpu", "neuron"})

Span = tuple[int, int, int, int]
"""First line, last line, first column and last column of an expression, as in `dis.Positions`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Condition:
    """A device-dependent condition in a file."""

    line: int
    text: str
    accelerator: Accelerator


@dataclass(frozen=True, slots=True)
class Jump:
    """A conditional jump that decides on a condition."""

    offset: int
    target: int
    condition: Condition
    jumps_if: bool
    """The value of the condition with which it jumps."""

    def value(self, next_offset: int) -> bool:
        """The value of the condition, from the offset of the instruction that ran after the jump."""
        jumped = next_offset >= self.target if self.target > self.offset else next_offset <= self.offset
        return self.jumps_if if jumped else not self.jumps_if


def jumps(code: CodeType) -> dict[int, Jump]:
    """The jumps of `code` that decide on a device-dependent condition, by offset; empty if it is no function."""
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return {}
    found: dict[int, Jump] = {}
    evaluated: dis.Instruction | None = None
    prefixes: list[int] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "EXTENDED_ARG":
            prefixes.append(instruction.offset)
            continue
        if "JUMP" in instruction.opname and "_IF_" in instruction.opname and evaluated is not None:
            # The position of the jump itself is that of a whole statement or of an earlier operand.
            condition = condition_at(code.co_filename, _span(evaluated))
            if condition is not None:
                jump = Jump(instruction.offset, instruction.argval, condition, _jumps_if(instruction.opname))
                found |= dict.fromkeys([*prefixes, instruction.offset], jump)
        evaluated, prefixes = instruction, []
    return found


def _jumps_if(opname: str) -> bool:
    """The value of the operand with which the instruction jumps. None counts as false."""
    return "_IF_TRUE" in opname or "_IF_NOT_NONE" in opname


def _span(instruction: dis.Instruction) -> Span | None:
    positions = instruction.positions
    if positions is None or positions.lineno is None or positions.end_lineno is None:
        return None
    return (positions.lineno, positions.end_lineno, positions.col_offset or 0, positions.end_col_offset or 0)


# -------------------------------------------------------------------------------------------------------------- source


@dataclass(frozen=True, slots=True)
class _Expression:
    node: ast.expr
    inside: tuple[Function, ...]
    """The functions around it, outermost first."""


@functools.cache
def condition_at(file: str, span: Span | None) -> Condition | None:
    """The device-dependent expression in a function of `file` at `span`; None if there is none."""
    source, expressions = _read(file)
    found = expressions.get(span) if span else None
    if found is None:
        return None
    accelerator = _accelerator(found.node, _names(found.inside))
    return None if accelerator is None else Condition(found.node.lineno, _text(found.node, source), accelerator)


@functools.cache
def _read(file: str) -> tuple[str, Mapping[Span, _Expression]]:
    """The source of `file` and its expressions by position; none if it cannot be read."""
    try:
        source = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return "", {}
    return source, {_place(found.node): found for found in _expressions(tree, ())}


def _expressions(parent: ast.AST, inside: tuple[Function, ...]) -> Iterator[_Expression]:
    """All expressions in functions below `parent`. Of two at one place the inner one comes last."""
    for node in ast.iter_child_nodes(parent):
        if inside and isinstance(node, ast.expr):
            yield _Expression(node, inside)
        yield from _expressions(node, (*inside, node) if isinstance(node, FUNCTIONS) else inside)


def _place(node: ast.expr) -> Span:
    return node.lineno, node.end_lineno or node.lineno, node.col_offset, node.end_col_offset or 0


def _text(node: ast.expr, source: str) -> str:
    return " ".join((ast.get_source_segment(source, node) or ast.unparse(node)).split())


@functools.cache
def _names(functions: tuple[Function, ...]) -> Mapping[str, Accelerator]:
    """Variables of `functions` that hold the value of a device-dependent condition, or of one of them."""
    assigned = [pair for function in functions for node in ast.walk(function) if (pair := _assigned(node))]
    found: dict[str, Accelerator] = {}
    while True:
        more = {name: kind for name, value in assigned if (kind := _of_value(value, found)) and name not in found}
        if not more:
            return found
        found |= more


def _assigned(node: ast.AST) -> tuple[str, ast.expr] | None:
    """The variable and the value of a simple assignment; None if `node` is none."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            return name, value
        case _:
            return None


def _of_value(value: ast.expr, names: Mapping[str, Accelerator]) -> Accelerator | None:
    """Of a value that is itself a condition. A tensor or a device that was chosen with a condition is none."""
    match value:
        case ast.BoolOp(values=operands):
            return _first([_of_value(operand, names) for operand in operands])
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _of_value(operand, names)
        case ast.Compare() | ast.Name():
            return _accelerator(value, names)
        case ast.Call() if not _PREDICATE.search(_dotted(value)):
            return None
        case ast.Call() | ast.Attribute():
            return _of_name(_dotted(value))
        case _:
            return None


def _accelerator(node: ast.expr, names: Mapping[str, Accelerator]) -> Accelerator | None:
    """Which accelerator decides on `node`; None if none does."""
    found: list[Accelerator | None] = []
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) if name in names:
                found.append(names[name])
            case ast.Name() | ast.Attribute():
                found.append(_of_name(_dotted(part)))
            case ast.Compare():
                found.append(_of_devices(part))
            case _:
                pass
    return _first(found)


def _first(found: list[Accelerator | None]) -> Accelerator | None:
    """CUDA if it is in `found`, else the other one, else None."""
    return next((kind for kind in Accelerator if kind in found), None)


def _of_name(name: str) -> Accelerator | None:
    if _CUDA.search(name):
        return Accelerator.CUDA
    return Accelerator.OTHER if _OTHER.search(name) else None


def _of_devices(comparison: ast.Compare) -> Accelerator | None:
    """Of a comparison with the name of a device, or of the type of a device with something else."""
    parts = tuple(ast.walk(comparison))
    texts = {part.value for part in parts if isinstance(part, ast.Constant)}
    if texts & _OTHER_DEVICES and not texts & _CUDA_DEVICES:
        return Accelerator.OTHER
    if "meta" in texts and not texts & _CUDA_DEVICES:
        return None  # tensors without data are on no device
    of_type = any(isinstance(part, ast.Attribute) and _dotted(part).endswith("device.type") for part in parts)
    return Accelerator.CUDA if texts & _CUDA_DEVICES or of_type else None


def _dotted(node: ast.expr) -> str:
    """The dotted name of a name, an attribute or a call (example: `torch.cuda.is_available`)."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{_dotted(value)}.{attr}"
        case ast.Call(func=func):
            return _dotted(func)
        case _:
            return ""
