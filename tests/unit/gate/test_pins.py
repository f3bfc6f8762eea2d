"""Sides that are pins, and the exact message for every invalid one."""

from __future__ import annotations

import pytest
from finetune_compat.gate.asked import Move, Upgrade
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.inputs import read_side
from side_builders import CAN_BE, MATRIX, PLATFORM, refusal, wanted


class TestPins:
    def test_another_release_brings_the_packages_of_its_day(self) -> None:
        """It is no row, and is named after the pin."""
        found = wanted("trl==0.22.1")
        assert (found.rule, found.name, list(map(str, found.requirements))) == (
            Rule.OF_ITS_DAY,
            "trl0.22.1",
            ["trl==0.22.1"],
        )

    @pytest.mark.parametrize(
        "texts",
        [
            ["peft==0.16.0 trl==0.22.2"],
            ["peft==0.16.0", "trl==0.22.2"],
            ["peft==0.16.0,trl==0.22.2"],
            ["peft == 0.16.0 , trl== 0.22.2"],
        ],
    )
    def test_several_in_one_value_or_in_several(self, texts: list[str]) -> None:
        """The name follows the matrix's order, not the typed order: one stack has one name."""
        assert wanted(*texts).name == "trl0.22.2-peft0.16.0"

    def test_extras_of_another_release_are_requested(self) -> None:
        """They make another stack than the package alone."""
        found = wanted("peft == 0.16.0 trl [vllm,peft] == 0.22.2")
        assert (found.name, list(map(str, found.requirements))) == (
            "trl-peft-vllm0.22.2-peft0.16.0",
            ["trl[peft,vllm]==0.22.2", "peft==0.16.0"],
        )

    def test_torch_is_reported_as_ignored(self) -> None:
        """Other pins are used."""
        assert wanted("trl==0.22.2", "torch==2.8.0").not_followed == (f"torch==2.8.0: {PLATFORM}",)

    @pytest.mark.parametrize(
        ("text", "moves"),
        [
            ("trl>=0.22", (Move("trl", ">=0.22"),)),
            ("trl==0.22.*", (Move("trl", "==0.22.*"),)),
            ("trl >= 0.22, < 0.23", (Move("trl", "<0.23,>=0.22"),)),
            ("trl==latest", (Move("trl"),)),
            ("trl @ latest", (Move("trl"),)),
            ("peft==0.17.1 trl==latest", (Move("trl"), Move("peft", "==0.17.1"))),
            ("latest", ()),
            (
                "trl @ git+https://github.com/huggingface/trl@main",
                (Move("trl", "", (), "git+https://github.com/huggingface/trl@main"),),
            ),
        ],
    )
    def test_what_the_index_or_a_build_must_tell(self, text: str, moves: tuple[Move, ...]) -> None:
        """The newest release of a range, the newest of all, or what is at an address."""
        assert read_side([text], "--to", MATRIX) == Upgrade(moves, "3.11", in_project=False)

    @pytest.mark.parametrize("text", ["trl===0.22.2", "trl==0.22.2; python_version > '3'"])
    def test_what_names_no_release(self, text: str) -> None:
        """Markers and === are for files."""
        assert refusal(text) == (
            f"--to: {text!r} names no release\n"
            "A side has one release of each package: markers and === are for files.\n"
            "Pin it with ==, such as trl==0.22.2."
        )

    def test_twice(self) -> None:
        """The request is ambiguous."""
        assert refusal("trl==0.22.2", "trl==0.23.1") == "--to: trl is pinned twice\nLeave one of the pins out."

    def test_none_of_the_stack(self) -> None:
        """A web framework does not train, and torch belongs to the machine."""
        pins = "Pin one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        assert refusal("flask==3.0") == (
            f"--to: no pin of a package that the matrix resolves: flask==3.0\n"
            f"The gate compares the training stack.\n{pins}"
        )
        assert refusal("torch==2.8.0") == (
            "--to: no pin of a package that the matrix resolves: torch==2.8.0\n"
            "torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.\n"
            f"{pins}"
        )

    def test_nothing(self) -> None:
        """The message says what a side can be."""
        assert refusal(" ") == f"compat gate: --to is empty\n{CAN_BE}"

    def test_a_word(self) -> None:
        """The message has similar names."""
        assert refusal("trl0.2222") == (
            "--to: 'trl0.2222' is neither a stack, a pin, a file nor an interpreter\n"
            f"Stacks of matrices/stacks.toml that look like it: trl0.22, trl0.22.0, trl0.29.\n{CAN_BE}"
        )
        assert refusal("!!") == (
            f"--to: '!!' is neither a stack, a pin, a file nor an interpreter\n"
            f"No stack of matrices/stacks.toml looks like it.\n{CAN_BE}"
        )

    def test_a_stack_beside_a_pin(self) -> None:
        """Only pins can be combined."""
        assert refusal("trl0.22", "peft==0.16.0") == (
            "--to: 'trl0.22' does not go with other values\n"
            "A side is one stack, one file or one interpreter, or pins; only pins can be several.\n"
            "Leave one of them out."
        )
