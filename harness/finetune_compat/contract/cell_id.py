"""The id of a cell: one type, one format, one parser. Standard library only."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from finetune_compat.contract.records import DeviceKind, Precision

EXAMPLE = "trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu"
"""Example for messages."""

_SHAPE = re.compile(
    rf"(?P<stack>[^/]*)(?:/(?P<flow>.*?)(?:\[(?P<variant>[^\[\]]*)\])?(?:@(?P<device>{'|'.join(DeviceKind)}))?)?",
    re.DOTALL,
)
_MODEL = re.compile(rf"(?P<model>.+?)-(?:{'|'.join(Precision)})-.+")


@dataclass(frozen=True, slots=True)
class CellId:
    """`stack/flow[variant]@device`. A watched script is a flow. It has no variant before one of its models is seen."""

    stack: str
    """With the Python version (example: `trl0.22-py311`)."""
    flow: str = ""
    """Empty: the id of the whole stack, if none of its cells ran."""
    variant: str = ""
    device: DeviceKind | None = None

    @property
    def test(self) -> str:
        """The part that pytest's `-k` matches (example: `sft-peft-model[qwen2-nf4-gc]`)."""
        return f"{self.flow}[{self.variant}]" if self.variant else self.flow

    @property
    def name(self) -> str:
        """The id without its stack: the same cell on another stack has the same name."""
        return self.test if self.device is None else f"{self.test}@{self.device}"

    @property
    def model(self) -> str:
        """The model in the variant (example: `qwen2`); empty if there is none."""
        found = _MODEL.fullmatch(self.variant)
        return found["model"] if found else ""

    def __str__(self) -> str:
        return f"{self.stack}/{self.name}" if self.flow else self.stack


@functools.cache  # a run parses each id several times
def parse_cell(text: str) -> CellId:
    """Parse an id. `str` of the result is `text`. Text that is not a variant or a device becomes part of the flow."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return CellId(text)
    device = found["device"]
    return CellId(found["stack"], found["flow"] or "", found["variant"] or "", DeviceKind(device) if device else None)
