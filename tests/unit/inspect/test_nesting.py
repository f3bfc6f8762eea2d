"""JSON from untrusted files."""

from __future__ import annotations

import json

import pytest
from finetune_compat.inspect.nesting import DEEPEST, parsed


def nested(levels: int, opening: str, closing: str) -> bytes:
    return (opening * levels + "1" + closing * levels).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_what_is_nested_deeper_than_any_real_file_is_refused(opening: str, closing: str) -> None:
    """The limit itself is allowed. Far beyond it, the parser of the standard library would raise RecursionError."""
    text = nested(DEEPEST, opening, closing)
    assert parsed(text) == json.loads(text)
    for levels in (DEEPEST + 1, 200_000):
        with pytest.raises(ValueError, match=f"^is nested more than {DEEPEST} levels deep$"):
            parsed(nested(levels, opening, closing))


def test_many_items_beside_each_other_are_not_deep() -> None:
    """A vocabulary has a hundred thousand."""
    assert len(parsed(b"[" + b"[1]," * 100_000 + b"[1]]")) == 100_001


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe{}", b"NaN]"])
def test_what_is_no_json_is_one_message(data: bytes) -> None:
    """It can follow the name of the file."""
    with pytest.raises(ValueError, match=r"^is not JSON: "):
        parsed(data)


def test_options_are_those_of_the_standard_library() -> None:
    """A reader may refuse duplicate keys."""
    assert parsed(b'{"a": 1, "a": 2}', object_pairs_hook=list) == [("a", 1), ("a", 2)]
