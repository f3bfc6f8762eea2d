"""The output of `compat inspect` for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import CONFIG, PREFIX, Q0, V1, raw, tensors, update, values, write
from finetune_compat import cli
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect import inspection
from finetune_compat.inspect.inspection import Inspection, inspect_adapter
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.render import print_inspection
from finetune_compat.machine.places import PACKAGE
from rich.console import Console

ROOT = PACKAGE.parents[1]

A0 = f"{PREFIX}{Q0}.lora_A.weight"
LOADS = Loading(
    stack="trl1.16-py311",
    versions={"peft": "0.21.2", "transformers": "5.20.0", "torch": "2.13.0"},
    base="Qwen2ForCausalLM",
    tied=False,
    error="",
    fitting=8,
    missing=(),
    unexpected=(),
    mismatched=(),
    unknown_options=(),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are named relative to their folder."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main(("inspect", *arguments))
    return int(caught.value.code or 0)


def shown(seen: Inspection, width: int) -> list[str]:
    """Return what is printed on a terminal of this width."""
    out = StringIO()
    print_inspection(seen, Console(file=out, width=width, color_system=None))
    return out.getvalue().splitlines()


def facts(seen: Inspection) -> list[str]:
    """Return what is printed above the table in a wide terminal."""
    lines = shown(seen, 200)
    return lines[: lines.index("")]


def broken() -> Path:
    """An adapter that was never trained, with a NaN in its head."""
    arrays: dict[str, Any] = {k: np.zeros_like(v) if "lora_B" in k else v for k, v in tensors().items()}
    arrays[f"{PREFIX}score.weight"] = np.array([[3, np.nan]], dtype=np.float16)
    return write(Path("adapter"), arrays, modules_to_save=["score"], peft_version="0.21.2")


FACTS = """\
r 2, alpha 4, scaling 2
targets q_proj, v_proj
saved whole score

class   tensors  elements  dtype   min  max  norm
lora_A        4        48  F32    1.12  5.5  24.4
lora_B        4        48  F32       0    0     0  all zero
head          1         2  F16       3    3     3  1 NaN
"""
"""Norm: the root of the sum of (n/8 + seed) squared, for n = 1 to 12 and seed = 1 to 4, is 24.405."""

WIDE = f"""\
adapter  LoRA, base tiny/qwen2, task CAUSAL_LM, PEFT 0.21.2, SIZE kB
{FACTS}
S203  UNHEALTHY: Not every value is a finite number: 1 NaN in 1 of 9 tensors (score.weight).
   To do: Use an earlier checkpoint, and look at loss and gradient norm from there on.

S204  UNHEALTHY: lora_B is exactly zero in all 4 modules, as before the first step: this adapter was never trained.
   To do: Count the trainable parameters after the trainer is built: adapters that are frozen by then never change.
   Seen in the flows sft-peft-model, sft-inference-mode-config; listed as trl#3926, inference-mode.

Unhealthy: 2 findings, 0 notes.
"""

NARROW = f"""\
adapter  LoRA, base tiny/qwen2, task CAUSAL_LM, PEFT 0.21.2, SIZE kB
{FACTS}
S203  UNHEALTHY: Not every value is a finite number: 1 NaN in 1 of 9 tensors
   (score.weight).
   To do: Use an earlier checkpoint, and look at loss and gradient norm from
      there on.

S204  UNHEALTHY: lora_B is exactly zero in all 4 modules, as before the first
   step: this adapter was never trained.
   To do: Count the trainable parameters after the trainer is built: adapters
      that are frozen by then never change.
   Seen in the flows sft-peft-model, sft-inference-mode-config; listed as
      trl#3926, inference-mode.

Unhealthy: 2 findings, 0 notes.
"""


class TestPage:
    @pytest.mark.parametrize(("width", "page"), [(120, WIDE), (80, NARROW)])
    def test_the_page_shows_the_adapter_and_its_faults(self, width: int, page: str) -> None:
        """Everything is on one screen, and no line is cut."""
        directory = broken()
        size = (directory / "adapter_model.safetensors").stat().st_size
        expected = page.replace("SIZE", f"{size / 1000:.1f}")
        assert shown(inspect_adapter(directory), width) == expected.splitlines()

    def test_a_healthy_adapter_is_reported_in_one_line(self) -> None:
        """The other facts of a healthy class are omitted."""
        lines = shown(inspect_adapter(write(Path("a"))), 80)
        assert lines[-2:] == ["", "Healthy: nothing wrong was found, 0 notes."]
        assert lines[5:7] == [
            "lora_A        4        48  F32     1.12  5.5  24.4",
            "lora_B        4        48  F32    -3.88  0.5  14.3",  # likewise, of n/8 - seed: 14.340
        ]

    def test_one_of_each_is_counted_as_one(self) -> None:
        """The text is not `1 findings`."""
        lines = shown(inspect_adapter(write(Path("a"), r=4, inference_mode=True)), 80)
        assert lines[-1] == "Unhealthy: 1 finding, 1 note."

    def test_missing_facts_are_reported_as_missing(self) -> None:
        """These are base model, task and version."""
        seen = inspect_adapter(write(Path("a"), base_model_name_or_path=None, task_type=None))
        assert facts(seen)[0].startswith("a  LoRA, base not recorded, task not recorded, PEFT not recorded, ")

    def test_different_ranks_are_shown_with_their_counts(self) -> None:
        """Each rank has its own alpha and scaling."""
        arrays = {**tensors(), **update(V1, 9, rank=8)}
        seen = inspect_adapter(write(Path("a"), arrays, rank_pattern={V1: 8}, use_rslora=True))
        assert facts(seen)[1:] == [
            "r 2, alpha 4, scaling 2.828 in 3 of 4 modules",
            "r 8, alpha 4, scaling 1.414 in 1 of 4 modules",
            "targets q_proj, v_proj",
        ]

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"target_modules": ".*_proj"}, "targets .*_proj"),
            ({"target_modules": [Q0, Q0.replace("0", "1"), "lm_head"]}, f"targets lm_head, {Q0.replace('0', '0-1')}"),
            ({"target_modules": ["q"], "target_parameters": ["experts.up"]}, "targets q, experts.up"),
            ({"target_modules": None}, "targets not recorded"),
        ],
    )
    def test_targets_are_shown_as_given(self, asked: dict[str, Any], told: str) -> None:
        """Names that differ only in their layer are shown as one."""
        assert facts(inspect_adapter(write(Path("a"), **asked)))[-1] == told

    def test_another_method_shows_no_ranks(self) -> None:
        """Its tensors are in the table."""
        seen = inspect_adapter(write(Path("a"), {f"{PREFIX}q.ia3_l": values(4)}, peft_type="IA3"))
        assert len(facts(seen)) == 1
        assert shown(seen, 80)[2:4] == [
            "class  tensors  elements  dtype   min  max  norm",
            "ia3_l        1         4  F32    1.12  1.5  2.64",
        ]

    def test_a_file_without_tensors_has_no_table(self) -> None:
        """Only the finding is printed."""
        lines = shown(inspect_adapter(write(Path("a"), {})), 80)
        assert not any(line.startswith("class") for line in lines)
        assert "S201  UNHEALTHY: The file holds no tensor." in lines

    def test_values_that_are_not_read_are_dashes(self) -> None:
        """There are no extremes of a part of the values."""
        raw(write(Path("a")) / "adapter_model.safetensors", [(A0, "F8_E8M0", [1, 2], b"\1\2")])
        row = next(line for line in shown(inspect_adapter(Path("a")), 80) if line.startswith("lora_A"))
        assert row.split() == ["lora_A", "1", "2", "F8_E8M0", "-", "-", "-", "not", "read"]

    @pytest.mark.parametrize(
        ("size", "told"),
        [(999, "999 bytes"), (1_000, "1.0 kB"), (1_234_567, "1.2 MB"), (2_000_000_000, "2.0 GB")],
    )
    def test_a_size_is_shown_with_its_unit(self, size: int, told: str) -> None:
        """Units are powers of ten."""
        seen = inspect_adapter(write(Path("a")))
        # The size is given to the function; no file of that size is needed.
        object.__setattr__(seen.saved.weights, "size", size)
        assert facts(seen)[0].endswith(f", {told}")

    @pytest.mark.parametrize(
        ("base", "told"), [("Qwen2ForCausalLM", "8 tensors fit Qwen2ForCausalLM"), ("", "8 tensors fit no base")]
    )
    def test_the_result_of_a_load_is_shown(self, base: str, told: str) -> None:
        """The versions of the stack are there too."""
        seen = inspect_adapter(write(Path("a")))
        loading = Loading(**{**{name: getattr(LOADS, name) for name in LOADS.__slots__}, "base": base})
        with_stack = Inspection(seen.saved, loading, seen.findings)
        assert facts(with_stack)[-1] == f"under trl1.16-py311 (PEFT 0.21.2, Transformers 5.20.0) {told}"


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
