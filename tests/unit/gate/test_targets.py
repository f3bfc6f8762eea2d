"""Which package and which releases the search for a safe target looks at."""

from __future__ import annotations

from datetime import date

import builders as b
from finetune_compat.gate.decision import Moved
from finetune_compat.gate.targets import Suspect, candidates, suspect
from finetune_compat.stacks.index import Release
from packaging.version import Version

TRL = ("0.19.0", "0.19.1", "0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "1.0.0rc1")


def there(*versions: str) -> list[Release]:
    """A package index."""
    return [Release(Version(version), date(2025, 1, 1)) for version in versions]


class TestCandidates:
    def test_a_step_back_looks_no_further_than_what_is_in_use(self) -> None:
        """From 0.23.1 to 0.22.0: 0.22.1, 0.22.2 and 0.23.0 lie between."""
        above, below = candidates(Suspect("trl", Version("0.23.1"), Version("0.22.0")), there(*TRL))
        assert [str(release.version) for release in above] == ["0.22.1", "0.22.2", "0.23.0"]
        assert below == ()


class TestSuspect:
    MOVED = (Moved("trl", "0.19.1", "0.22.2"), Moved("peft", "0.16.0", "0.17.1"), Moved("certifi", "1", "2"))

    def test_the_ledger_comes_first(self) -> None:
        """Its windows name the package, whatever was pinned."""
        found = suspect(self.MOVED, ["peft"], [b.LISTED.issues[0].id], [], b.LISTED)
        assert found == Suspect("trl", Version("0.19.1"), Version("0.22.2"))

    def test_else_the_one_pin_that_moved(self) -> None:
        """With several pins nothing is known."""
        assert suspect(self.MOVED, ["peft"], [], [], b.UNLISTED) == Suspect(
            "peft", Version("0.16.0"), Version("0.17.1")
        )
        assert suspect(self.MOVED, ["peft", "trl"], [], [], b.UNLISTED) is None

    def test_else_the_function_that_the_script_called_and_that_froze(self) -> None:
        """A pin may move PEFT, which freezes, with it."""
        assert suspect(self.MOVED, ["trl"], [], [], b.UNLISTED, ["peft/peft_model.py"]) == Suspect(
            "peft", Version("0.16.0"), Version("0.17.1")
        )
        assert suspect(self.MOVED, ["trl"], [], [], b.UNLISTED, ["transformers/trainer.py"]) == Suspect(
            "trl", Version("0.19.1"), Version("0.22.2")
        )

    def test_else_the_file_that_did_it(self) -> None:
        """It is the first that belongs to a package that moved and has releases that can run."""
        files = ["harness/cell/flow.py", "certifi/core.py", "trl/models/utils.py"]
        assert suspect(self.MOVED, [], [], files, b.UNLISTED) == Suspect("trl", Version("0.19.1"), Version("0.22.2"))
