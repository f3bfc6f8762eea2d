"""An inspection in a terminal."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from adapters import A0, LOADS, PREFIX, Q0, V1, broken, raw, tensors, update, values, write
from finetune_compat.inspect.inspection import Inspection, inspect_adapter
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.render import print_inspection
from rich.console import Console


def shown(seen: Inspection, width: int) -> list[str]:
    """Return what is printed on a terminal of this width."""
    out = StringIO()
    print_inspection(seen, Console(file=out, width=width, color_system=None))
    return out.getvalue().splitlines()


def facts(seen: Inspection) -> list[str]:
    """Return what is printed above the table in a wide terminal."""
    lines = shown(seen, 200)
    return lines[: lines.index("")]


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
