"""The tensors of a safetensors file: names, shapes and facts of their values. Host side, without torch.

The safetensors library checks that the file is well-formed. Values are read in pieces, because an adapter may be larger
than the memory of the machine.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import safetensors

from finetune_compat.contract.errors import AdapterError
from finetune_compat.inspect.values import NO_VALUES, READABLE, Values, together, values_of
from finetune_compat.machine.foreign import parsed

WEIGHTS = "adapter_model.safetensors"
"""PEFT's name of the file."""

PIECE = 1 << 15
"""Elements to read at once. Larger pieces took three times as long: as doubles they exceed the size from which malloc
returns memory to the system on each free.
"""

_LENGTH = 8
"""Bytes before the header: its length, little-endian (the format's own definition)."""

_LONGEST_HEADER = 100_000_000
"""Maximum size of a header in the format, in bytes. A larger value means that the file has another format."""

_LARGEST_HEADER = 32 * 1024 * 1024
_MOST_TENSORS = 100_000
_LONGEST_NAME = 4_000  # Python reads no number of 4,300 digits
_MOST_PARTS = 64
"""Limits of what is read: several times what the largest adapters have."""

_PICKLE = re.compile(rb"PK\x03\x04|\x80[\x02-\x05][\x28-\xff]")
"""First bytes of files of torch.save (a zip; a bare pickle before torch 1.6) and pickle.dump.

In a pickle, an opcode follows the protocol, and no opcode is below 0x28. The third byte is needed because a safetensors
header of 640 bytes has the same first two bytes.
"""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file."""

    name: str
    dtype: str
    """Name in the safetensors format: `F32`, `BF16`, `F8_E4M3`."""
    shape: tuple[int, ...]
    elements: int
    values: Values | None
    """None where the dtype is not in `READABLE`."""
    sha256: str
    """Digest of its bytes."""

    @property
    def all_zero(self) -> bool:
        """Whether the tensor has elements and all of them are exactly zero."""
        return self.values is not None and 0 < self.elements == self.values.zero

    @property
    def constant(self) -> float | None:
        """The value of all elements; None if they differ, if there are none, or if they were not read."""
        values = self.values
        if values is None or values.nan + values.infinite or values.minimum != values.maximum:
            return None
        return values.minimum


@dataclass(frozen=True, slots=True)
class Weights:
    """All tensors of a file."""

    path: Path
    size: int
    """Size of the file in bytes."""
    metadata: dict[str, str]
    """Metadata in the header; PEFT writes `format: pt`."""
    tensors: tuple[Tensor, ...]
    """In natural order of their names: layer 2 before layer 10."""


# ------------------------------------------------------------------------------------------------------------- reading


def read_weights(path: Path) -> Weights:
    """Read every tensor of the safetensors file at `path` once.

    Raises:
        AdapterError: the file is empty, cut off, a pickle, or not a safetensors file.
    """
    header = _header(path)
    metadata = header.pop("__metadata__", {})
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        start = _LENGTH + length
        tensors = [_tensor(file, start, name, header[name]) for name in sorted(header, key=_natural)]
    return Weights(path, path.stat().st_size, metadata, tuple(tensors))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def pickled(path: Path, what: str) -> AdapterError:
    """The error for a pickle, with the command that converts it."""
    return AdapterError(
        what,
        where=str(path),
        meaning="Pickles are not read: reading a pickle can run any code that its author put into it.",
        todo="If you trust its source, convert it in its directory with the stack that made it:\n"
        '  python -c "import torch, safetensors.torch as st; '
        f"t = torch.load('{path.name}', map_location='cpu', weights_only=True); "
        f"st.save_file({{k: v.contiguous() for k, v in t.items()}}, '{WEIGHTS}', {{'format': 'pt'}})\"",
    )


def _header(path: Path) -> dict[str, Any]:
    """The header of the file, after the library has checked that it describes exactly the bytes after it.

    The library decides whether the file is a safetensors file, and runs no code of it. The first bytes only explain a
    refusal: the length of a valid header may equal the first bytes of another format.
    """
    if not path.stat().st_size:
        raise AdapterError(
            "the file is empty",
            where=str(path),
            meaning="The process that saved it ended before it wrote anything, or the disk was full.",
            todo="Save the adapter again, or take an earlier checkpoint.",
        )
    opened: Any = safetensors.safe_open  # its stubs do not type the context manager
    try:
        with opened(path, framework="numpy"):
            return _decoded(path)
    except safetensors.SafetensorError as error:
        raise (
            _cut_off(path)
            or _other_format(path)
            or AdapterError(
                f"is not a safetensors file: {error}",
                where=str(path),
                meaning="Something else was saved under this name, or the file was damaged on its way.",
                todo="Save the adapter again with save_pretrained, or copy it again.",
            )
        ) from None


def _other_format(path: Path) -> AdapterError | None:
    """The error to raise if the file begins like a pickle or a Git LFS pointer; None if it does not."""
    with path.open("rb") as file:
        begins = file.read(len(_LFS_POINTER))
    if _PICKLE.match(begins):
        return pickled(path, "is a pickle under the name of a safetensors file")
    if begins != _LFS_POINTER:
        return None
    return AdapterError(
        "is a Git LFS pointer, not the file itself",
        where=str(path),
        meaning="The repository was cloned without Git LFS.",
        todo="Fetch the file: git lfs pull.",
    )


def _decoded(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        if length > _LARGEST_HEADER:
            raise _too_much(path, f"its header has {length:,} bytes, and at most {_LARGEST_HEADER:,} are read")
        try:
            header: dict[str, Any] = parsed(file.read(length), object_pairs_hook=partial(_without_repetition, path))
        except ValueError as error:
            raise _too_much(path, f"its header {error}") from None
    long = next((name for name in header if len(name) > _LONGEST_NAME or name.count(".") > _MOST_PARTS), None)
    if len(header) > _MOST_TENSORS or long is not None:
        what = f"{len(header):,} tensors" if long is None else f"a tensor with a name of {len(long):,} characters"
        raise _too_much(path, f"it has {what}")
    return header


def _too_much(path: Path, what: str) -> AdapterError:
    return AdapterError(
        what,
        where=str(path),
        meaning="No library saves such an adapter: the largest have 40,000 tensors, with names of 100 characters.",
        todo="Save the adapter again with save_pretrained.",
    )


def _without_repetition(path: Path, items: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in items)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise AdapterError(
            f"names the same tensor twice: {', '.join(repeated)}",
            where=str(path),
            meaning="No library writes such a header. The reader decides which of the two is loaded.",
            todo="Save the adapter again with save_pretrained.",
        )
    return dict(items)


def _cut_off(path: Path) -> AdapterError | None:
    """The error to raise if the file is shorter than its header announces; None if it is not."""
    size = path.stat().st_size
    promised = _promised(path, size)
    if promised is None or promised <= size:
        return None
    return AdapterError(
        f"is cut off: its header announces {promised:,} bytes, and it has {size:,}",
        where=str(path),
        meaning="Saving, copying or downloading it did not finish.",
        todo="Copy it again; if it was cut off where it was saved, take an earlier checkpoint.",
    )


def _promised(path: Path, size: int) -> int | None:
    """Size in bytes of the complete file, from its header; None if the file does not begin like a safetensors file."""
    with path.open("rb") as file:
        begins = file.read(_LENGTH)
        if len(begins) < _LENGTH:
            return None
        (length,) = struct.unpack("<Q", begins)
        if length > _LONGEST_HEADER:
            return None
        if _LENGTH + length > size:
            return _LENGTH + length if file.read(1) in (b"{", b"") else None
        try:
            entries = parsed(file.read(length)).items()
            ends = [int(entry["data_offsets"][1]) for name, entry in entries if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            return None
    return int(_LENGTH + length + max(ends, default=0))


# -------------------------------------------------------------------------------------------------------------- values


def _tensor(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    digest, values = hashlib.sha256(), NO_VALUES
    width, decode = READABLE.get(dtype, (1, None))
    file.seek(start + begin)
    for piece in _pieces(file, end - begin, PIECE * width):
        digest.update(piece)
        if decode is not None:
            values = together(values, values_of(decode(piece)))
    return Tensor(name, dtype, shape, math.prod(shape), values if decode else None, digest.hexdigest())


def _pieces(file: BinaryIO, length: int, piece: int) -> Iterator[bytes]:
    while length > 0:
        read = file.read(min(piece, length))
        if not read:
            raise AdapterError(
                "became shorter while it was read",
                where=file.name,
                meaning="Something is writing to it.",
                todo="Wait until it is saved, and inspect it again.",
            )
        yield read
        length -= len(read)
