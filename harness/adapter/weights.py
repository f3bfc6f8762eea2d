"""The tensors of a safetensors file: names, shapes, and what their values are. Host side, without torch.

The library proves that the file is well-formed. Values are read in pieces, as raw bytes, because numpy has no bfloat16
and no 8-bit float, and because an adapter may be larger than the memory of the machine that looks at it.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
from numpy.typing import NDArray

from harness.errors import AdapterError

PIECE = 1 << 20
"""Elements read at once: what a look at a file costs in memory does not grow with the file."""

_LENGTH = 8
"""Bytes before the header: its length, little-endian (the format's own definition)."""

_LONGEST_HEADER = 100_000_000
"""Bytes the format allows a header. A larger number in its place is some other file's beginning."""

_PICKLES = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
"""How torch.save (a zip, in releases before 1.6 a bare pickle) and pickle.dump begin."""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Values:
    """What the elements of a tensor, or of several, are. Extremes and norm are over the finite ones."""

    zero: int
    nan: int
    infinite: int
    minimum: float | None
    """None if no element is finite."""
    maximum: float | None
    norm: float
    """Euclidean."""


NO_VALUES = Values(0, 0, 0, None, None, 0.0)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file."""

    name: str
    dtype: str
    """As the format spells it: `F32`, `BF16`, `F8_E4M3`."""
    shape: tuple[int, ...]
    elements: int
    values: Values | None
    """None where the dtype is none of those read here (`READABLE`)."""
    sha256: str
    """Of its bytes: equal tensors have equal digests."""

    @property
    def all_zero(self) -> bool:
        """Whether it has elements and every one is exactly zero."""
        return self.values is not None and 0 < self.elements == self.values.zero


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole file."""

    path: Path
    size: int
    """Bytes on disk."""
    metadata: dict[str, str]
    """What its writer noted in it; PEFT writes `format: pt`."""
    tensors: tuple[Tensor, ...]
    """In the order of their names, numbers in them counted as numbers are."""


# ------------------------------------------------------------------------------------------------------------- reading


def read_weights(path: Path) -> Weights:
    """Every tensor of the safetensors file at `path`, all of it read once.

    Raises:
        AdapterError: the file is empty, cut off, a pickle, or not a safetensors file.
    """
    _refuse_strangers(path)
    header = _header(path)
    metadata = header.pop("__metadata__", {})
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        start = _LENGTH + length
        tensors = [_tensor(file, start, name, header[name]) for name in sorted(header, key=_natural)]
    return Weights(path, path.stat().st_size, metadata, tuple(tensors))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _refuse_strangers(path: Path) -> None:
    """Refuse by its first bytes what is safetensors by name alone."""
    with path.open("rb") as file:
        begins = file.read(len(_LFS_POINTER))
    if not begins:
        raise AdapterError(
            "the file is empty",
            where=str(path),
            meaning="The process that saved it ended before it had written anything, or the disk was full.",
            todo="Save the adapter again, or take an earlier checkpoint.",
        )
    if begins.startswith(_PICKLES):
        raise pickled(path, "is a pickle under the name of a safetensors file")
    if begins == _LFS_POINTER:
        raise AdapterError(
            "is a pointer of Git LFS, not the file it points to",
            where=str(path),
            meaning="The repository was cloned without Git LFS.",
            todo="Fetch the file: git lfs pull.",
        )


def pickled(path: Path, what: str) -> AdapterError:
    """The refusal of a pickle, with the way out of it."""
    target = path.with_name("adapter_model.safetensors").name
    return AdapterError(
        what,
        where=str(path),
        meaning="A pickle is not looked into: reading one runs whatever code its maker put into it.",
        todo="If you trust where it comes from, convert it, in its directory and with the stack that made it:\n"
        '  python -c "import torch, safetensors.torch as st; '
        f"t = torch.load('{path.name}', map_location='cpu', weights_only=True); "
        f"st.save_file({{k: v.contiguous() for k, v in t.items()}}, '{target}', {{'format': 'pt'}})\"",
    )


def _header(path: Path) -> dict[str, Any]:
    """The file's header, which the library has found to describe exactly the bytes that follow it."""
    opened: Any = safetensors.safe_open  # its stubs leave the types of a context manager open
    try:
        with opened(path, framework="numpy"):
            return _decoded(path)
    except safetensors.SafetensorError as error:
        raise _cut_off(path) or AdapterError(
            f"is not a safetensors file: {error}",
            where=str(path),
            meaning="Something else was saved under this name, or the file was damaged on its way.",
            todo="Save the adapter again with save_pretrained, or copy it again.",
        ) from None


def _decoded(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] = lambda items: _without_repetition(items, path)  # noqa: E731
        header: dict[str, Any] = json.loads(file.read(length), object_pairs_hook=pairs)
    return header


def _without_repetition(items: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    names = [name for name, _ in items]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise AdapterError(
            f"names the same tensor twice: {', '.join(repeated)}",
            where=str(path),
            meaning="No library writes such a header; which of the two is loaded depends on the reader.",
            todo="Save the adapter again with save_pretrained.",
        )
    return dict(items)


def _cut_off(path: Path) -> AdapterError | None:
    """The error to raise if the file ends before what its header announces; None if that is not what is wrong."""
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
    """Bytes a whole file of this beginning has; None if it does not begin as one."""
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
            entries = json.loads(file.read(length)).items()
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
            raise OSError(f"{file.name} became shorter while it was read")
        yield read
        length -= len(read)


def values_of(elements: NDArray[np.float64]) -> Values:
    """What `elements`, of which there is at least one, are."""
    finite = elements[np.isfinite(elements)]
    nan = int(np.count_nonzero(np.isnan(elements)))
    infinite = elements.size - finite.size - nan
    if not finite.size:
        return Values(0, nan, infinite, None, None, 0.0)
    low, high = float(finite.min()), float(finite.max())
    zero = elements.size - int(np.count_nonzero(elements))
    return Values(zero, nan, infinite, low, high, _norm(finite, max(-low, high)))


def _norm(finite: NDArray[np.float64], peak: float) -> float:
    if not peak:
        return 0.0
    # Squares of large or tiny doubles leave the range of a double; those of a fraction of the peak do not.
    scaled = finite / peak
    return peak * math.sqrt(float(np.dot(scaled, scaled)))


def together(one: Values, other: Values) -> Values:
    """What the elements of both are."""
    lows = [low for low in (one.minimum, other.minimum) if low is not None]
    highs = [high for high in (one.maximum, other.maximum) if high is not None]
    return Values(
        zero=one.zero + other.zero,
        nan=one.nan + other.nan,
        infinite=one.infinite + other.infinite,
        minimum=min(lows, default=None),
        maximum=max(highs, default=None),
        norm=math.hypot(one.norm, other.norm),
    )


# ------------------------------------------------------------------------------------------------------ number formats


def _plain(code: str) -> Callable[[bytes], NDArray[np.float64]]:
    def decode(raw: bytes) -> NDArray[np.float64]:
        # A signalling NaN is an invalid operand of a conversion, and numpy says so.
        with np.errstate(invalid="ignore"):
            return np.frombuffer(raw, dtype=code).astype(np.float64)

    return decode


def _upper_half(code: str, wider: str, shift: int) -> Callable[[bytes], NDArray[np.float64]]:
    """A format that is the upper half of the bits of a wider one."""

    def decode(raw: bytes) -> NDArray[np.float64]:
        bits = np.frombuffer(raw, dtype=code).astype(wider.replace("f", "u")) << shift
        with np.errstate(invalid="ignore"):
            return bits.view(wider).astype(np.float64)

    return decode


def _e4m3(byte: int) -> float:
    """OCP 8-bit float E4M3: bias 7, no infinity, all ones is NaN."""
    sign, exponent, mantissa = -1.0 if byte & 0x80 else 1.0, byte >> 3 & 0xF, byte & 0x7
    if (exponent, mantissa) == (0xF, 0x7):
        return math.nan
    return sign * (math.ldexp(8 + mantissa, exponent - 10) if exponent else math.ldexp(mantissa, -9))


_E4M3 = np.array([_e4m3(byte) for byte in range(256)])


def _by_table(raw: bytes) -> NDArray[np.float64]:
    values: NDArray[np.float64] = _E4M3[np.frombuffer(raw, dtype="u1")]
    return values


READABLE: dict[str, tuple[int, Callable[[bytes], NDArray[np.float64]]]] = {
    "F64": (8, _plain("<f8")),
    "F32": (4, _plain("<f4")),
    "F16": (2, _plain("<f2")),
    "BF16": (2, _upper_half("<u2", "<f4", 16)),
    "F8_E5M2": (1, _upper_half("u1", "<f2", 8)),
    "F8_E4M3": (1, _by_table),
    "I64": (8, _plain("<i8")),
    "U64": (8, _plain("<u8")),
    "I32": (4, _plain("<i4")),
    "U32": (4, _plain("<u4")),
    "I16": (2, _plain("<i2")),
    "U16": (2, _plain("<u2")),
    "I8": (1, _plain("i1")),
    "U8": (1, _plain("u1")),
    "BOOL": (1, _plain("u1")),
}
"""Bytes of an element and how to read them, by the format's name of a dtype."""
