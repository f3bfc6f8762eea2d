"""Valid sides of a gate, and the exact message for every invalid one."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.gate.asked import Move, Row, Upgrade, Wanted
from finetune_compat.gate.inputs import read_side, read_target, read_upgrade
from side_builders import MATRIX, refusal, wanted, written


class TestRows:
    @pytest.mark.parametrize("text", ["trl0.22", "trl==0.22.2", " trl0.22 ", "TRL==0.22.2", "trl == 0.22.2 "])
    def test_a_name_and_the_pin_of_a_row_are_that_row(self, text: str) -> None:
        """The side has the committed lock, by either name."""
        assert read_side([text], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), None)

    def test_a_name_may_say_its_python(self) -> None:
        """Cells and reports have the same names."""
        assert read_side(["trl0.22-py312"], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), "3.12")

    @pytest.mark.parametrize(
        ("text", "pin"),
        [("trl[vllm]==0.22.2", "trl[vllm]==0.22.2"), ("trl [vllm, peft] == 0.22.2", "trl[peft,vllm]==0.22.2")],
    )
    def test_extras_of_a_row_are_reported_as_ignored(self, text: str, pin: str) -> None:
        """The committed lock is that of the package without extras."""
        told = (f"{pin}: the committed lock of trl0.22 has no extras",)
        assert read_side([text], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), None, told)

    def test_a_python_it_is_not_locked_for(self) -> None:
        """The message lists its Pythons."""
        assert refusal("trl0.24-py312") == (
            "matrices/stacks.toml: trl0.24 is not locked for Python 3.12\nIts row names 3.11.\nName trl0.24-py311."
        )


class TestMoves:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Wanted:
        """A file with two packages."""
        return wanted(written(tmp_path, "requirements.txt", "trl==0.19.1\nwandb\n"))

    def test_pins_move_packages_of_a_project(self, project: Wanted) -> None:
        """Also the pin of a row: only what must follow moves."""
        found = read_target(["trl==0.22.2"], "--to", project, MATRIX)
        assert found == Upgrade((Move("trl", "==0.22.2"),), "3.11", in_project=True)
        assert read_target(["latest"], "--to", project, MATRIX) == Upgrade((), "3.11", in_project=True)

    def test_a_stack_and_a_file_are_sides_of_their_own(self, project: Wanted, tmp_path: Path) -> None:
        """They have all of their versions."""
        assert read_target(["trl0.22"], "--to", project, MATRIX) == Row(MATRIX.stack("trl0.22"), None)
        other = written(tmp_path, "new.txt", "trl==0.22.2\n")
        assert read_target([other], "--to", project, MATRIX) == wanted(other)

    def test_pins_beside_a_stack_are_a_stack(self) -> None:
        """There is no project in which they could move."""
        before = read_side(["trl0.19"], "--from", MATRIX)
        assert read_target(["trl==0.22.2"], "--to", before, MATRIX) == Row(MATRIX.stack("trl0.22"), None)

    def test_an_upgrade_names_packages(self, project: Wanted) -> None:
        """A name alone is its newest release."""
        moves = (Move("trl"), Move("wandb", ">=0.20"))
        assert read_upgrade(["trl", "wandb>=0.20"], project, MATRIX) == Upgrade(moves, "3.11", in_project=True)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            (
                "wanbd",
                (
                    "--upgrade: wanbd is not a package of this side\nNames that look like it: wandb.\n"
                    "Name a package that the project names, or one of the training stack."
                ),
            ),
            (
                "torch==2.9",
                (
                    "--upgrade: torch==2.9 does not move\n"
                    "torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.\n"
                    "Name one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
                ),
            ),
            ("", "compat gate: --upgrade is empty\nName a package, such as --upgrade trl."),
        ],
    )
    def test_what_does_not_move(self, project: Wanted, word: str, message: str) -> None:
        """The message has the nearest name."""
        with pytest.raises(CompatError) as raised:
            read_upgrade([word], project, MATRIX)
        assert str(raised.value) == message

    def test_a_wheel_and_a_source_folder_of_the_stack(self, tmp_path: Path) -> None:
        """They are built; a folder of another project is read."""
        wheel = tmp_path / "trl-1.17.0.dev0-py3-none-any.whl"
        wheel.touch()
        source = tmp_path / "peft"
        source.mkdir()
        written(source, "pyproject.toml", '[project]\nname = "peft"\nversion = "0.18.dev0"\n')
        for path, name in ((wheel, "trl"), (source, "peft")):
            found = read_side([str(path)], "--to", MATRIX)
            assert found == Upgrade((Move(name, secret_address=str(path)),), "3.11", in_project=False)
        assert refusal(str(tmp_path / "wandb-1-py3-none-any.whl")) == (
            f"--to {tmp_path}/wandb-1-py3-none-any.whl: there is no such file\n"
            "The gate compares the training stack; the name of a wheel begins with its package.\n"
            "Name a wheel of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        )
