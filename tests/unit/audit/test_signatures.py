"""What releases accept: the committed data against known changes of the libraries, and the reader of wheels."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.contract.errors import RecordsError

KNOWN = read_signatures()


def versions(trl: str, transformers: str, peft: str = "0.17.1") -> dict[str, str]:
    return {"trl": trl, "transformers": transformers, "peft": peft}


@pytest.mark.parametrize(
    ("name", "argument", "until", "since"),
    [
        # Each was seen in the signatures of the two neighbouring releases.
        ("trl.SFTConfig", "max_seq_length", versions("0.19.1", "4.53.1"), versions("0.20.0", "4.55.0")),
        ("trl.DPOConfig", "max_prompt_length", versions("0.28.0", "5.1.0"), versions("0.29.1", "5.3.0")),
        ("trl.SFTTrainer", "tokenizer", versions("0.15.2", "4.49.0"), versions("0.16.1", "4.50.3")),
        ("trl.SFTTrainer", "dataset_text_field", versions("0.12.2", "4.46.3"), versions("0.13.0", "4.47.0")),
        ("transformers.TrainingArguments", "evaluation_strategy", versions("1", "4.45.2"), versions("1", "4.51.3")),
        ("transformers.TrainingArguments", "warmup_ratio", versions("1", "5.14.1"), versions("1", "5.15.0")),
    ],
)
def test_an_argument_goes_with_a_release(
    name: str, argument: str, until: dict[str, str], since: dict[str, str]
) -> None:
    """It is there before, and not after."""
    before, after = KNOWN.arguments(name, until), KNOWN.arguments(name, since)
    assert before is not None and argument in before
    assert after is not None and argument not in after


def test_a_configuration_has_the_arguments_of_its_base() -> None:
    """Those of the Transformers release beside it."""
    old = KNOWN.arguments("trl.SFTConfig", versions("0.19.1", "4.53.1"))
    new = KNOWN.arguments("trl.SFTConfig", versions("0.19.1", "5.20.0"))
    assert old is not None and new is not None
    assert "no_cuda" in old and "no_cuda" not in new


@pytest.mark.parametrize("known", [{"trl": "0.22.2"}, versions("99.0", "4.56.0"), versions("0.0.1", "4.56.0"), {}])
def test_what_is_not_known_is_not_claimed(known: dict[str, str]) -> None:
    """A release outside those that were read, or a base whose release is not known."""
    assert KNOWN.arguments("trl.SFTConfig", known) is None


def test_names_of_packages_come_and_go() -> None:
    """DataCollatorForCompletionOnlyLM was removed in 0.20."""
    assert KNOWN.has_name("trl", "DataCollatorForCompletionOnlyLM", "0.19.1") is True
    assert KNOWN.has_name("trl", "DataCollatorForCompletionOnlyLM", "0.20.0") is False
    assert KNOWN.has_name("trl", "NoSuchName", "0.20.0") is None


@pytest.mark.parametrize("text", ["", "[]", '{"releases": {}}'])
def test_a_file_that_is_not_valid_is_reported(tmp_path: Path, text: str) -> None:
    """With the command that writes it."""
    path = tmp_path / "signatures.json"
    path.write_text(text)
    with pytest.raises(RecordsError, match="the signatures of releases cannot be read"):
        read_signatures(path)
