"""Values from raw bytes, compared with the simplest reader of each number format."""

from __future__ import annotations

import math
import struct

import pytest
from finetune_compat.inspect.values import NO_VALUES, READABLE, Values, together, values_of
from hypothesis import example, given
from hypothesis import strategies as st

_CODES = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "U64": "<Q", "I32": "<i", "U32": "<I"}
_CODES |= {"I16": "<h", "U16": "<H", "I8": "<b", "U8": "<B", "BOOL": "<B"}


def number(dtype: str, raw: bytes) -> float:
    """Read `raw` with the standard library or by the definition of the format."""
    match dtype:
        case "BF16":  # the upper half of a float32
            return float(struct.unpack("<f", b"\0\0" + raw)[0])
        case "F8_E5M2":  # the upper half of a float16
            return float(struct.unpack("<e", b"\0" + raw)[0])
        case "F8_E4M3":  # OCP: bias 7, no infinity, NaN where all bits but the sign are set
            sign, exponent, mantissa = (-1) ** (raw[0] >> 7), raw[0] // 8 % 16, raw[0] % 8
            if exponent == 15 and mantissa == 7:
                return math.nan
            return float(sign * ((1 + mantissa / 8) * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0**-6))
        case _:
            return float(struct.unpack(_CODES[dtype], raw)[0])


def reference(numbers: list[float]) -> Values:
    """Calculate the same facts one number at a time."""
    finite = [x for x in numbers if math.isfinite(x)]
    return Values(
        zero=sum(x == 0 for x in numbers),
        nan=sum(math.isnan(x) for x in numbers),
        infinite=sum(math.isinf(x) for x in numbers),
        minimum=min(finite, default=None),
        maximum=max(finite, default=None),
        norm=math.hypot(*finite),
    )


def same(one: Values, other: Values) -> bool:
    """Compare two results; norms may differ by rounding, because sums of squares depend on the order."""
    counted = (one.zero, one.nan, one.infinite) == (other.zero, other.nan, other.infinite)
    extremes = (one.minimum, one.maximum) == (other.minimum, other.maximum)
    return counted and extremes and math.isclose(one.norm, other.norm, rel_tol=1e-12)


@given(dtype=st.sampled_from(sorted(READABLE)), data=st.data())
def test_every_format_is_read_as_the_standard_reads_it(dtype: str, data: st.DataObject) -> None:
    """This holds for any bytes: both zeros, every NaN, infinities, the smallest and the largest numbers."""
    width, decode = READABLE[dtype]
    items = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=1, max_size=40))
    seen = values_of(decode(b"".join(items)))
    assert same(seen, reference([number(dtype, item) for item in items]))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_every_number_of_eight_bits_is_read_right(dtype: str) -> None:
    """This covers all 256."""
    _, decode = READABLE[dtype]
    for byte in range(256):
        seen, meant = float(decode(bytes([byte]))[0]), number(dtype, bytes([byte]))
        assert seen == meant or (math.isnan(seen) and math.isnan(meant))


@pytest.mark.parametrize(
    ("dtype", "raw", "meant"),
    [
        ("BF16", b"\x80\x3f", 1.0),
        ("BF16", b"\x80\xff", -math.inf),
        ("F16", b"\xff\x7b", 65504.0),
        ("F8_E4M3", b"\x7e", 448.0),
        ("F8_E4M3", b"\x01", 2.0**-9),
        ("F8_E5M2", b"\x7b", 57344.0),
        ("F8_E5M2", b"\x7c", math.inf),
    ],
)
def test_known_numbers_are_themselves(dtype: str, raw: bytes, meant: float) -> None:
    """These are one, the largest and the smallest number of each format, by its definition."""
    assert READABLE[dtype][1](raw)[0] == meant


@given(st.lists(st.floats(), min_size=1), st.lists(st.floats(), min_size=1))
@example([1e300], [1e300])
@example([5e-324], [5e-324, 0.0])
def test_two_parts_together_are_the_whole(one: list[float], other: list[float]) -> None:
    """This holds for any split of a tensor."""
    decode = READABLE["F64"][1]
    parts = [values_of(decode(struct.pack(f"<{len(part)}d", *part))) for part in (one, other)]
    assert same(together(*parts), reference([*one, *other]))
    assert together(parts[0], NO_VALUES) == parts[0]


@pytest.mark.parametrize("unit", [1e200, 1.0, 1e-200])
def test_a_norm_is_correct_if_squares_overflow_or_underflow(unit: float) -> None:
    """The vector has the components 3 and 4 and the norm 5, scaled up and down."""
    decode = READABLE["F64"][1]
    assert math.isclose(values_of(decode(struct.pack("<2d", 3 * unit, -4 * unit))).norm, 5 * unit, rel_tol=1e-12)
