"""What releases accept: the committed data against known changes of the libraries, and the reader of wheels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from finetune_compat.audit.signatures import ANY, Signatures, read_signatures
from finetune_compat.audit.successors import successor
from finetune_compat.contract.errors import RecordsError
from finetune_compat.evidence.signatures import as_text, locked_releases, read_wheel

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


def test_every_locked_release_was_read() -> None:
    """A new row of the matrix needs its signatures."""
    assert {package: list(found) for package, found in KNOWN.releases.items()} == locked_releases()


def test_a_successor_is_an_argument_that_the_release_has() -> None:
    """Otherwise it would be no advice."""
    accepted = KNOWN.arguments("trl.SFTConfig", versions("1.16.0", "5.20.0"))
    assert accepted is not None
    assert successor("trl.SFTConfig", "max_seq_length", accepted) == "max_length"
    assert successor("trl.SFTConfig", "max_seq_length", ["other"]) == ""
    assert successor("trl.SFTConfig", "no_such", accepted) == ""


WHEEL = {
    "trl/__init__.py": (
        "_import_structure = {'trainer': ['OneConfig', 'OneTrainer']}\nfrom .other import helper, _hidden\n"
    ),
    "trl/trainer/one.py": (
        "from dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass\nclass _Base(TrainingArguments):\n    a: int = 1\n"
        "    b: int = field(init=False)\n    c: ClassVar[int] = 1\n"
        "@dataclass\nclass OneConfig(_Base):\n    d: int = 2\n"
        "class OneTrainer(Trainer):\n    @deprecate_kwarg('tokenizer', new_name='processing_class')\n"
        "    def __init__(self, model, *, processing_class=None, **kwargs): ...\n"
    ),
}


def wheel(folder: Path, version: str, files: dict[str, str]) -> Path:
    """Write a wheel."""
    path = folder / f"trl-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


class TestWheels:
    def test_the_source_of_a_wheel_is_read(self, tmp_path: Path) -> None:
        """Fields of dataclasses and their bases, arguments of constructors, and old names that a decorator takes."""
        found = read_wheel(wheel(tmp_path, "1", WHEEL), "trl")
        assert found.callables == {
            "OneConfig": ("a", "d"),
            "OneTrainer": ("model", "processing_class", "tokenizer", ANY),
        }
        assert found.bases == {"OneConfig": ("transformers.TrainingArguments",)}
        assert found.names == ("OneConfig", "OneTrainer", "helper")

    def test_spans_are_those_of_the_releases(self, tmp_path: Path) -> None:
        """An argument may go and come back."""
        changed = {
            **WHEEL,
            "trl/trainer/one.py": WHEEL["trl/trainer/one.py"].replace("    d: int = 2\n", "    e: int = 2\n"),
        }
        for version, files in (("1", WHEEL), ("2", changed), ("3", WHEEL)):
            wheel(tmp_path, version, files)
        content = json.loads(as_text({"trl": ["1", "2", "3"]}, tmp_path))
        assert content["callables"]["trl.OneConfig"] == {"a": [[0, 2]], "d": [[0, 0], [2, 2]], "e": [[1, 1]]}
        assert Signatures(**content).has_name("trl", "helper", "2") is True


@pytest.mark.parametrize("text", ["", "[]", '{"releases": {}}'])
def test_a_file_that_is_not_valid_is_reported(tmp_path: Path, text: str) -> None:
    """With the command that writes it."""
    path = tmp_path / "signatures.json"
    path.write_text(text)
    with pytest.raises(RecordsError, match="the signatures of releases cannot be read"):
        read_signatures(path)
