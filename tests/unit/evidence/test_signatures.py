"""The reader of wheels, and the committed signatures of releases."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from finetune_compat.audit.signatures import ANY, Signatures, read_signatures
from finetune_compat.evidence.signatures import as_text, locked_releases, read_wheel

KNOWN = read_signatures()


def test_every_locked_release_was_read() -> None:
    """A new row of the matrix needs its signatures."""
    assert {package: list(found) for package, found in KNOWN.releases.items()} == locked_releases()


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
