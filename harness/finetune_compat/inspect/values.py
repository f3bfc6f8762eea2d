"""Facts of the elements of a tensor, decoded from raw bytes because numpy lacks bfloat16 and 8-bit floats. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Values:
    """Facts of the elements of one or several tensors. Extremes and norm are over the finite elements."""

    zero: int
    nan: int
    infinite: int
    minimum: float | None
    """None if no element is finite."""
    maximum: float | None
    norm: float
    """Euclidean norm."""


NO_VALUES = Values(0, 0, 0, None, None, 0.0)


def values_of(elements: NDArray[np.float64]) -> Values:
    """Facts of `elements`, which must hold at least one element."""
    low, high = float(elements.min()), float(elements.max())
    if math.isfinite(low) and math.isfinite(high):  # a NaN anywhere makes the minimum and the maximum NaN
        zero = elements.size - int(np.count_nonzero(elements))
        return Values(zero, 0, 0, low, high, _norm(elements, max(-low, high)))
    finite = elements[np.isfinite(elements)]
    of_finite = values_of(finite) if finite.size else NO_VALUES
    nan = int(np.count_nonzero(np.isnan(elements)))
    return replace(of_finite, nan=nan, infinite=elements.size - finite.size - nan)


def _norm(finite: NDArray[np.float64], peak: float) -> float:
    if not peak:
        return 0.0
    # Squares of very large or tiny doubles overflow or underflow; squares of fractions of the peak do not.
    scaled = finite / peak
    return peak * math.sqrt(float(np.dot(scaled, scaled)))


def together(one: Values, other: Values) -> Values:
    """Facts of the elements of both."""
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
        # numpy warns when it converts a signalling NaN.
        with np.errstate(invalid="ignore"):
            return np.frombuffer(raw, dtype=code).astype(np.float64)

    return decode


def _upper_half(code: str, wider: str, shift: int) -> Callable[[bytes], NDArray[np.float64]]:
    """Decoder of a format that is the upper half of the bits of a wider format."""

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
"""Bytes of an element and its decoder, by the safetensors name of the dtype."""
