"""The id of a cell: one value, one spelling, one parser. Standard library only."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from finetune_compat.contract.records import DeviceKind, Precision

EXAMPLE = "trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu"
"""For messages."""

_SHAPE = re.compile(
    rf"(?P<stack>[^/]*)(?:/(?P<flow>.*?)(?:\[(?P<variant>[^\[\]]*)\])?(?:@(?P<device>{'|'.join(DeviceKind)}))?)?",
    re.DOTALL,
)
_MODEL = re.compile(rf"(?P<model>.+?)-(?:{'|'.join(Precision)})-.+")
_PYTHON = re.compile(r"-py(\d)(\d+)$")


@dataclass(frozen=True, slots=True)
class CellId:
    """`stack/flow[variant]@device`. A watched script is a flow; it has no variant until a model of it was seen."""

    stack: str
    """With its Python, such as `trl0.22-py311`."""
    flow: str = ""
    """Empty: the stack as a whole, where none of its cells ran."""
    variant: str = ""
    device: DeviceKind | None = None

    @property
    def test(self) -> str:
        """The part that pytest's `-k` selects by, such as `sft-peft-model[qwen2-nf4-gc]`."""
        return f"{self.flow}[{self.variant}]" if self.variant else self.flow

    @property
    def name(self) -> str:
        """The id without its stack: the same cell on another stack has the same name."""
        return self.test if self.device is None else f"{self.test}@{self.device}"

    @property
    def model(self) -> str:
        """The first part of the variant, such as `qwen2`."""
        found = _MODEL.fullmatch(self.variant)
        return found["model"] if found else ""

    @property
    def python(self) -> str:
        """Such as `3.11`; empty if the stack's name has none."""
        found = _PYTHON.search(self.stack)
        return ".".join(found.groups()) if found else ""

    def __str__(self) -> str:
        return f"{self.stack}/{self.name}" if self.flow else self.stack


@functools.cache  # a run asks several times for each of its cells
def parse_cell(text: str) -> CellId:
    """The value of an id. `str` of it is `text` again; what is not a variant or a device belongs to the flow."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return CellId(text)
    device = found["device"]
    return CellId(found["stack"], found["flow"] or "", found["variant"] or "", DeviceKind(device) if device else None)
