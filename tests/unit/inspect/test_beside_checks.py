"""Checks of what lies beside a saved adapter."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import PREFIX, card, logged, tensors, values, write
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.inspection import Inspection, as_json, inspect_adapter
from finetune_compat.inspect.render import print_inspection
from rich.console import Console

NAN = float("nan")


def adapter(directory: Path, *, trained: bool = True, **config: Any) -> Path:
    """An adapter, with B of zeros if it was never trained."""
    arrays = {name: array * (trained or "lora_A" in name) for name, array in tensors().items()}
    return write(directory, arrays, **config)


def sentences(seen: Inspection) -> dict[str, str]:
    """Findings by code."""
    return {finding.code: finding.sentence for finding in seen.findings}


class TestTheLog:
    def test_a_training_without_gradients_is_told_from_its_log(self, tmp_path: Path) -> None:
        """The log explains the zeros in the file; the known issue is one of these versions."""
        adapter(tmp_path, trained=False)
        card(tmp_path)
        logged(tmp_path, [0.0] * 12)
        seen = inspect_adapter(tmp_path)
        assert sentences(seen) == {
            "S209": "Trained on TRL 0.22.2, gradient norm 0.0 at all 12 logged steps: this adapter was never trained "
            "(trainer_state.json)."
        }
        assert seen.findings[0].issues == ("trl#3926", "inference-mode")
        assert seen.exit_code is ExitCode.UNHEALTHY

    def test_a_known_issue_of_other_versions_is_not_named(self, tmp_path: Path) -> None:
        """The window of trl#3926 ends before 0.23.1."""
        adapter(tmp_path, trained=False)
        card(tmp_path, trl="1.16.0")
        (finding,) = inspect_adapter(tmp_path).findings
        assert (finding.code, finding.issues) == ("S204", ("inference-mode",))

    def test_an_adapter_that_was_trained_before_is_told_apart(self, tmp_path: Path) -> None:
        adapter(tmp_path)
        logged(tmp_path, [0.0])
        assert sentences(inspect_adapter(tmp_path)) == {
            "S209": "The trainer logged gradient norm 0.0 at the only logged step: this training changed nothing "
            "(trainer_state.json)."
        }

    @pytest.mark.parametrize(
        ("norms", "losses", "rewards", "code", "says"),
        [
            ([1.0, NAN, NAN], None, {}, "S209", "gradient norm nan from step 20 on"),
            ([1.0, 1.0], [2.0, NAN], {}, "S210", "loss nan from step 20 on"),
            ([1.0, 1.0], [0.0, 0.0], {}, "S210", "loss 0.0 at all 2 logged steps: Trainer logs a loss of NaN as 0"),
            ([NAN, 1.0, 0.0], None, {}, None, ""),  # float16 skips the first steps while it looks for a scale
            ([1.0, 1.0], [0.0, 0.0], {"reward": 0.5}, None, ""),
            ([1.0, 1.0], None, {}, None, ""),
        ],
    )
    def test_numbers_that_are_none_are_told_with_their_step(
        self, tmp_path: Path, norms: list[float], losses: list[float] | None, rewards: Any, code: str | None, says: str
    ) -> None:
        adapter(tmp_path)
        logged(tmp_path, norms, losses, **rewards)
        seen = inspect_adapter(tmp_path)
        expected = {code: f"The trainer logged {says} (trainer_state.json)."} if code else {}
        assert sentences(seen) == expected
        json.dumps(as_json(seen), allow_nan=False)

    def test_the_page_says_what_lies_beside(self, tmp_path: Path) -> None:
        adapter(tmp_path)
        card(tmp_path)
        logged(tmp_path, [0.5, 0.25])
        out = StringIO()
        print_inspection(inspect_adapter(tmp_path), Console(file=out, width=200, color_system=None))
        assert "saved with trl 0.22.2, transformers 4.56.0, torch 2.8.0+cu128 (README.md)" in out.getvalue()
        assert "trained 20 steps, loss 2 -> 1.9, gradient norm 0.5 -> 0.25 (trainer_state.json)" in out.getvalue()


class TestTheVocabulary:
    """The base has 40 rows and is in a directory that the configuration records."""

    def saved(self, directory: Path, arrays: dict[str, Any], tokens: int = 42, base_tokens: int = 40) -> dict[str, str]:
        """What is found in an adapter beside a tokenizer of `tokens`."""
        base = directory / "base"
        base.mkdir()
        (base / "config.json").write_text(json.dumps({"model_type": "llama", "text_config": {"vocab_size": 40}}))
        (base / "added_tokens.json").write_text(json.dumps({"<a>": base_tokens - 1}))
        place = write(directory / "a", {**tensors(), **arrays}, base_model_name_or_path=str(base))
        (place / "added_tokens.json").write_text(json.dumps({"<x>": tokens - 1}))
        return sentences(inspect_adapter(place))

    def test_added_rows_that_are_not_saved_are_a_fault(self, tmp_path: Path) -> None:
        assert self.saved(tmp_path, {})["S310"] == (
            "2 rows were added to the vocabulary and are not in the file: the tokenizer has 42 tokens, the base 40 "
            "rows."
        )

    @pytest.mark.parametrize(
        "name", ["model.embed_tokens.weight", "model.embed_tokens.token_adapter.trainable_tokens_delta"]
    )
    def test_saved_rows_are_not(self, tmp_path: Path, name: str) -> None:
        """They are saved as the whole embedding, or alone."""
        assert "S310" not in self.saved(tmp_path, {f"{PREFIX}{name}": np.ascontiguousarray(values(42, 6))})

    def test_an_embedding_without_the_added_rows_is_a_fault(self, tmp_path: Path) -> None:
        assert "S310" in self.saved(tmp_path, {f"{PREFIX}model.embed_tokens.weight": values(40, 6)})

    @pytest.mark.parametrize("numbers", [{"tokens": 40}, {"tokens": 41, "base_tokens": 41}])
    def test_nothing_was_added(self, tmp_path: Path, numbers: dict[str, int]) -> None:
        """Some published models have a token without a row."""
        assert "S310" not in self.saved(tmp_path, {}, **numbers)

    def test_without_the_base_it_is_not_judged(self, tmp_path: Path) -> None:
        place = write(tmp_path / "a", base_model_name_or_path="hub/name")
        (place / "added_tokens.json").write_text('{"<x>": 99}')
        assert sentences(inspect_adapter(place)) == {}
