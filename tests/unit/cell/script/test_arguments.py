"""Every unknown argument of a call that ended a script."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from finetune_compat.cell.script.arguments import unknown_arguments
from finetune_compat.contract.script import UnknownArgument


class TestUnknownArguments:
    """Python's error names the first one only."""

    @pytest.fixture
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A class of TRL."""

        def init(self: object, output_dir: str = "", max_length: int = 1) -> None:
            pass

        init.__qualname__ = "SFTConfig.__init__"
        module = ModuleType("trl")
        module.SFTConfig = type("SFTConfig", (), {"__init__": init, "__module__": "trl.trainer"})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "trl", module)

    def raised_by(self, script: Path, code: str) -> tuple[UnknownArgument, ...]:
        """The unknown arguments of the error that `code` raises."""
        script.write_text(code)
        with pytest.raises(TypeError) as raised:
            exec(compile(code, str(script), "exec"), {})  # noqa: S102 - a script is run in the same way
        return unknown_arguments(raised.value)

    @pytest.mark.parametrize(
        "call",
        [
            'SFTConfig(\n    "out",\n    max_seq_length=64,\n    warmup_ratio=0.1,\n    max_length=2,\n)',
            'SFTConfig("out", **{"max_seq_length": 64, "warmup_ratio": 0.1})',
            'more = {"max_seq_length": 64, "warmup_ratio": 0.1}\nSFTConfig("out", **more)',
            "import trl\ntrl.SFTConfig(max_seq_length=64, warmup_ratio=0.1)",
            "from trl import SFTConfig as Config\nConfig(max_seq_length=64, warmup_ratio=0.1)",
        ],
    )
    def test_all_of_a_call_are_found(self, library: None, tmp_path: Path, call: str) -> None:
        found = self.raised_by(tmp_path / "train.py", f"from trl import SFTConfig\n{call}\n")
        assert [(one.callee, one.name) for one in found] == [
            ("trl:SFTConfig", "max_seq_length"),
            ("trl:SFTConfig", "warmup_ratio"),
        ]
        assert found[0].accepts == ("output_dir", "max_length")

    @pytest.mark.parametrize(
        "code",
        [
            "class Mine:\n    def __init__(self):\n        pass\n\n\nMine(colour=1)\n",
            "def mine():\n    pass\n\n\nmine(colour=1)\n",
            "raise TypeError('no')\n",
        ],
    )
    def test_those_of_the_scripts_own_code_are_not_a_librarys(self, tmp_path: Path, code: str) -> None:
        assert self.raised_by(tmp_path / "train.py", code) == ()
