"""Which line: functions on the chain of a bad release that differ from the good one."""

from __future__ import annotations

from pathlib import Path

import builders as b
import pytest
from finetune_compat.bisect.lines import Installed, changed_functions
from finetune_compat.contract.records import Frame, Stage

GOOD = "class Trainer:\n    def prepare(self, model):\n        return model\n\n    def train(self):\n        return 1\n"
BAD = (
    "import os\n\nclass Trainer:\n    def prepare(self, model):\n        model = freeze(model)\n        return model\n"
    "\n"
    "    def train(self):\n        a = 2\n        b = 3\n        return a + b\n\ndef freeze(model):\n    return model\n"
)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Installed, Installed]:
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / name / "trl").mkdir(parents=True)
        (tmp_path / name / "trl" / "trainer.py").write_text(text)
    return Installed(tmp_path / "good", {"trl": "0.23.1"}), Installed(tmp_path / "bad", {"trl": "0.23.0"})


SEEN = b.healthy("sft-peft-model")
FLOW, TRAIN, PREPARE, FREEZE = (
    Frame(file, line, name, "")
    for file, line, name in (
        ("finetune_compat/cell/flows/x.py", 3, "run"),
        ("trl/trainer.py", 11, "train"),
        ("trl/trainer.py", 5, "prepare"),
        ("trl/trainer.py", 14, "freeze"),
    )
)


class TestChanged:
    def test_the_smallest_change_comes_first(self, sides: tuple[Installed, Installed]) -> None:
        found = changed_functions(*sides, b.frozen(SEEN, chain=(FLOW, TRAIN, PREPARE, FREEZE)))
        assert [one.function for one in found] == ["freeze", "Trainer.prepare", "Trainer.train"]
        assert found[1].place == "trl/trainer.py::Trainer.prepare"
        assert "+        model = freeze(model)" in found[1].diff

    def test_links_to_both_tags(self, sides: tuple[Installed, Installed]) -> None:
        new, prepare = changed_functions(*sides, b.frozen(SEEN, chain=(PREPARE, FREEZE)))
        assert prepare.good_link == "https://github.com/huggingface/trl/blob/v0.23.1/trl/trainer.py#L2-L3"
        assert prepare.bad_link == "https://github.com/huggingface/trl/blob/v0.23.0/trl/trainer.py#L4-L6"
        assert (new.good_link, new.bad_link[-8:]) == ("", "#L13-L14"), "the good release has no such function"

    def test_the_stack_of_an_error(self, sides: tuple[Installed, Installed]) -> None:
        failed = b.failed(SEEN, "ValueError", "no", Stage.TRAINER, PREPARE)
        assert [one.function for one in changed_functions(*sides, failed)] == ["Trainer.prepare"]

    def test_nothing_where_nothing_differs(self, sides: tuple[Installed, Installed]) -> None:
        frozen = b.frozen(SEEN, chain=(PREPARE, FREEZE))
        assert changed_functions(sides[1], sides[1], frozen) == ()
        assert changed_functions(*sides, SEEN) == ()
