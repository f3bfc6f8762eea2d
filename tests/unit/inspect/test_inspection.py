"""The output of `compat inspect` for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import A0, CONFIG, LOADS, PREFIX, Q0, broken, raw, write
from finetune_compat import cli
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect import inspection
from finetune_compat.machine.places import PACKAGE

ROOT = PACKAGE.parents[1]


def run(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main(("inspect", *arguments))
    return int(caught.value.code or 0)


class TestJson:
    def test_it_holds_everything(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It has facts, modules, tensors and findings; NaN is counted, not written."""
        assert run(str(broken()), "--json") == ExitCode.UNHEALTHY
        told = json.loads(capsys.readouterr().out)
        assert (told["schema"], told["adapter"], told["healthy"], told["loading"]) == (1, "adapter", False, None)
        assert told["config"] == {**CONFIG, "modules_to_save": ["score"], "peft_version": "0.21.2"}
        assert told["file"]["metadata"] == {"format": "pt"} and told["file"]["pickles"] == []
        assert [found["code"] for found in told["findings"]] == ["S203", "S204"]
        assert told["findings"][0]["where"] == [f"{PREFIX}score.weight"]
        assert told["modules"][0] == {
            "module": Q0,
            "ranks": [2, 2],
            "rank_asked": 2,
            "alpha": 4.0,
            "scaling": 2.0,
            "targeted": True,
        }
        head = next(tensor for tensor in told["tensors"] if tensor["class"] == "head")
        assert len(head.pop("sha256")) == 64
        assert head == {
            "name": f"{PREFIX}score.weight",
            "dtype": "F16",
            "shape": [1, 2],
            "elements": 2,
            "values": {"zero": 0, "nan": 1, "infinite": 0, "minimum": 3.0, "maximum": 3.0, "norm": 3.0},
            "module": "score",
            "class": "head",
        }
        assert [(found["name"], found["all_zero"]) for found in told["classes"]] == [
            ("lora_A", 0),
            ("lora_B", 4),
            ("head", 0),
        ]

    def test_a_norm_that_is_no_number_is_null(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Norms of doubles near the largest are infinite; values that were not read are null as a whole."""
        huge = np.array([1.7e308, 1.7e308]).tobytes()
        raw(write(Path("a")) / "adapter_model.safetensors", [(A0, "F64", [1, 2], huge), ("b", "F8_E8M0", [1], b"\1")])
        run("a", "--json")
        told = json.loads(capsys.readouterr().out)
        by_name = {tensor["name"]: tensor["values"] for tensor in told["tensors"]}
        assert (by_name[A0]["maximum"], by_name[A0]["norm"], by_name["b"]) == (1.7e308, None, None)
        assert told["classes"][0]["values"]["norm"] is None

    def test_the_json_has_the_result_of_a_load(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The names are those of the fields."""
        monkeypatch.setattr(inspection, "load_under", lambda saved, base, stack: LOADS)
        assert run(str(write(Path("a"))), "--base", "qwen2.5-7b", "--stack", "trl1.16", "--json") == ExitCode.HEALTHY
        told = json.loads(capsys.readouterr().out)["loading"]
        assert (told["stack"], told["fitting"], told["missing"]) == ("trl1.16-py311", 8, [])


class TestCommand:
    def test_a_healthy_adapter_ends_with_0(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The page is on stdout; outside a terminal it has no trailing spaces and no colours."""
        assert run(str(write(Path("a")))) == ExitCode.HEALTHY
        out = capsys.readouterr().out
        assert out.endswith("\nHealthy: nothing wrong was found, 0 notes.\n")
        assert "\x1b" not in out and not any(line.endswith(" ") for line in out.splitlines())

    def test_an_unhealthy_one_ends_with_1(self) -> None:
        """One finding is enough."""
        assert run(str(broken())) == ExitCode.UNHEALTHY

    def test_an_unreadable_adapter_ends_with_4(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The message is on stderr and stdout is empty, also with --json."""
        assert run("nowhere", "--json") == ExitCode.BAD_INPUT
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[0]) == ("", "nowhere: there is no such directory")

    @pytest.mark.parametrize("half", [("--base", "config.json"), ("--stack", "trl1.16")])
    def test_a_base_needs_a_stack_and_a_stack_a_base(
        self, capsys: pytest.CaptureFixture[str], half: tuple[str, str]
    ) -> None:
        """This is reported before anything is read."""
        assert run("nowhere", *half) == ExitCode.BAD_INPUT
        assert capsys.readouterr().err == (
            "compat inspect: --base and --stack go together\n"
            "Whether an adapter loads depends on the base and on the versions that load it.\n"
            "Give both: --base qwen2.5-7b --stack trl1.16.\n"
        )

    def test_it_works_without_torch(self) -> None:
        """The command imports neither a stack nor the code that makes environments."""
        code = (
            "import sys; from finetune_compat.inspect.inspection import inspect_adapter; from pathlib import Path\n"
            f"inspect_adapter(Path({str(write(Path('a')).resolve())!r}))\n"
            "print([m for m in ('torch', 'peft', 'transformers') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
        assert done.stdout == "[]\n"

    def test_help_does_not_import_numpy(self) -> None:
        """Only this command imports what it needs."""
        code = (
            "import sys, finetune_compat.cli\n"
            "print([m for m in ('numpy', 'safetensors', 'rich.table') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
        assert done.stdout == "[]\n"
