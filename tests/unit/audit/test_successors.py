"""What replaced an argument that was removed."""

from __future__ import annotations

from finetune_compat.audit.signatures import read_signatures
from finetune_compat.audit.successors import successor

KNOWN = read_signatures()


def versions(trl: str, transformers: str, peft: str = "0.17.1") -> dict[str, str]:
    return {"trl": trl, "transformers": transformers, "peft": peft}


def test_a_successor_is_an_argument_that_the_release_has() -> None:
    """Otherwise it would be no advice."""
    accepted = KNOWN.arguments("trl.SFTConfig", versions("1.16.0", "5.20.0"))
    assert accepted is not None
    assert successor("trl.SFTConfig", "max_seq_length", accepted) == "max_length"
    assert successor("trl.SFTConfig", "max_seq_length", ["other"]) == ""
    assert successor("trl.SFTConfig", "no_such", accepted) == ""
