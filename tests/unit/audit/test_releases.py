"""The versions that code is joined with."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.audit.findings import Releases
from finetune_compat.audit.releases import moved_to, of_project
from finetune_compat.audit.signatures import Signatures
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import CompatError, ExitCode

LEDGER = Ledger(issues=())
KNOWN = Signatures({"trl": ["0.22.2", "0.23.0", "0.23.1"], "peft": ["0.17.1"]}, {}, {}, {})


class TestProjects:
    def test_the_nearest_file_above_the_code(self, tmp_path: Path) -> None:
        """Of its exact versions; a range has none."""
        (tmp_path / "requirements.txt").write_text("trl==0.22.2\npeft>=0.17\n")
        script = tmp_path / "a" / "b" / "train.py"
        script.parent.mkdir(parents=True)
        script.touch()
        for path in (script, script.parent, tmp_path):
            found, where = of_project(path, None, LEDGER)
            assert (found.versions, where) == ({"trl": "0.22.2"}, str(tmp_path / "requirements.txt"))
            assert (found.complete, found.installed) == (False, {"trl", "peft"})

    def test_a_named_file_comes_first(self, tmp_path: Path) -> None:
        """Wherever it is."""
        (tmp_path / "requirements.txt").write_text("trl==0.22.2\n")
        other = tmp_path / "other.txt"
        other.write_text("trl==0.23.0\n")
        assert of_project(tmp_path, other, LEDGER)[0].versions == {"trl": "0.23.0"}

    def test_a_repository_ends_the_search(self, tmp_path: Path) -> None:
        """What is above belongs to something else."""
        (tmp_path / "requirements.txt").write_text("trl==0.22.2\n")
        inner = tmp_path / "repository"
        (inner / ".git").mkdir(parents=True)
        assert of_project(inner, None, LEDGER) == (Releases({}, ledger=LEDGER), "")

    def test_the_search_ends_some_directories_above(self, tmp_path: Path) -> None:
        """Four of them are looked at."""
        (tmp_path / "requirements.txt").write_text("trl==0.22.2\n")
        deep = tmp_path / "a" / "b" / "c" / "d"
        deep.mkdir(parents=True)
        assert of_project(deep.parent, None, LEDGER)[1]
        assert of_project(deep, None, LEDGER)[1] == ""

    def test_a_broken_file_is_an_error_only_if_it_is_named(self, tmp_path: Path) -> None:
        """Code can be read without versions."""
        file = tmp_path / "requirements.txt"
        file.write_text("trl==\n")
        assert of_project(tmp_path, None, LEDGER) == (Releases({}, ledger=LEDGER), "")
        with pytest.raises(CompatError, match="is not a valid requirement"):
            of_project(tmp_path, file, LEDGER)


class TestUpgrades:
    TODAY = Releases({"trl": "0.22.2", "accelerate": "1.0", "peft": "0.16.0"}, True, frozenset({"trl"}), LEDGER)

    def moved(self, tmp_path: Path, wanted: str) -> Releases:
        """The versions after an upgrade, with these locks."""
        for name, peft, transformers in (
            ("trl0.23-py311", "0.17.1", "4.57.1"),
            ("trl0.23-py311-cuda", "0.1", "4.1"),
            ("peft0.16-py311", "0.16.0", "4.50.0"),
        ):
            (tmp_path / f"{name}.txt").write_text(
                "# a lock\nnumpy==2.0\ntrl==0.23.1 \\\n    --hash=sha256:0\n"
                f"transformers=={transformers}\npeft=={peft}\n"
            )
        return moved_to(wanted, self.TODAY, KNOWN, tmp_path)

    @pytest.mark.parametrize("wanted", ["trl==0.23.1", "trl>=0.23", "trl"])
    def test_the_newest_release_with_what_was_locked_with_it(self, tmp_path: Path, wanted: str) -> None:
        """By a row of the matrix that varies the package. Other packages stay."""
        found = self.moved(tmp_path, wanted)
        assert found.versions == {
            "trl": "0.23.1",
            "transformers": "4.57.1",
            "peft": "0.17.1",
            "accelerate": "1.0",
        }
        assert found.complete and found.ledger is LEDGER

    def test_a_release_without_a_lock_moves_alone(self, tmp_path: Path) -> None:
        """Nothing says what would come with it."""
        found = self.moved(tmp_path, "trl==0.23.0")
        assert found.versions == {**self.TODAY.versions, "trl": "0.23.0"}

    @pytest.mark.parametrize(
        ("wanted", "problem"),
        [
            ("trl==", "'trl==' is not a requirement"),
            ("numpy==2", "'numpy==2' names none of trl, peft"),
            ("trl==9", "'trl==9' matches no known release (0.22.2 to 0.23.1)"),
        ],
    )
    def test_what_is_not_known_is_bad_input(self, tmp_path: Path, wanted: str, problem: str) -> None:
        """With an example."""
        with pytest.raises(CompatError) as raised:
            self.moved(tmp_path, wanted)
        assert (raised.value.what, raised.value.where) == (problem, "--for")
        assert raised.value.exit_code is ExitCode.BAD_INPUT
