"""What lies beside a saved adapter, and what it says about the training."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import PREFIX, tensors, values, write
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.beside import read_beside, token_rows
from finetune_compat.inspect.inspection import Inspection, as_json, inspect_adapter
from finetune_compat.inspect.render import print_inspection
from rich.console import Console

CARD = """\
# out

```python
# - TRL: 9.9.9 is no line of the card
```

### Framework versions

- PEFT {peft}
- TRL: {trl}
- Transformers: 4.56.0
- Pytorch: 2.8.0+cu128
"""

NAN = float("nan")


def adapter(directory: Path, *, trained: bool = True, **config: Any) -> Path:
    """An adapter, with B of zeros if it was never trained."""
    arrays = {name: array * (trained or "lora_A" in name) for name, array in tensors().items()}
    return write(directory, arrays, **config)


def logged(directory: Path, norms: list[float], losses: list[float] | None = None, **more: float) -> None:
    """Write a trainer's log with one entry for every tenth step."""
    directory.mkdir(exist_ok=True)
    given = losses or [2.0 - 0.1 * place for place in range(len(norms))]
    entries = [
        {"step": 10 * place, "loss": loss, "grad_norm": norm, **more}
        for place, (norm, loss) in enumerate(zip(norms, given, strict=True), 1)
    ]
    state = {"global_step": 10 * len(norms), "log_history": [*entries, {"step": 10 * len(norms), "train_runtime": 3.0}]}
    (directory / "trainer_state.json").write_text(json.dumps(state))


def card(directory: Path, trl: str = "0.22.2", peft: str = "0.17.1") -> None:
    """Write the model card."""
    (directory / "README.md").write_text(CARD.format(trl=trl, peft=peft))


def sentences(seen: Inspection) -> dict[str, str]:
    """Findings by code."""
    return {finding.code: finding.sentence for finding in seen.findings}


class TestFacts:
    def test_versions_are_those_of_the_card_and_the_configuration(self, tmp_path: Path) -> None:
        """Other lists of the card hold no versions."""
        card(tmp_path)
        assert read_beside(tmp_path, "0.18.0").versions == {
            "peft": "0.18.0",
            "trl": "0.22.2",
            "transformers": "4.56.0",
            "torch": "2.8.0+cu128",
        }

    def test_the_newest_log_is_read(self, tmp_path: Path) -> None:
        """Checkpoints lie below a trainer's last save; 100 comes after 20."""
        logged(tmp_path / "checkpoint-20", [1.0] * 2)
        logged(tmp_path / "checkpoint-100", [1.0] * 10)
        log = read_beside(tmp_path, None).log
        assert log and (log.place, log.steps) == ("checkpoint-100/trainer_state.json", 100)
        assert [entry.step for entry in log.gradient_norms] == list(range(10, 101, 10))
        logged(tmp_path, [1.0])
        log = read_beside(tmp_path, None).log
        assert log and log.place == "trainer_state.json"

    def test_an_adapter_with_a_name_lies_below_its_log(self, tmp_path: Path) -> None:
        logged(tmp_path, [1.0])
        (tmp_path / "named").mkdir()
        log = read_beside(tmp_path / "named", None).log
        assert log and log.place == "../trainer_state.json"

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"log_history": 3}', '{"log_history": [1, {"loss": "a"}]}'])
    def test_a_damaged_log_says_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "trainer_state.json").write_text(text)
        log = read_beside(tmp_path, None).log
        assert log is None or (log.losses, log.gradient_norms) == ((), ())

    @pytest.mark.parametrize(
        ("name", "content", "rows"),
        [
            ("tokenizer.json", {"model": {"vocab": {"a": 0, "b": 7}}, "added_tokens": [{"id": 9}]}, 10),
            ("tokenizer.json", {"model": {"vocab": [["a", 0.5], ["b", 0.1]]}}, 2),
            ("added_tokens.json", {"<x>": 11}, 12),
            ("tokenizer_config.json", {"added_tokens_decoder": {"12": {"content": "<x>"}}}, 13),
            ("tokenizer.json", {"model": None, "added_tokens": 3}, None),
            ("tokenizer.json", [], None),
        ],
    )
    def test_a_tokenizer_needs_a_row_for_its_highest_id(
        self, tmp_path: Path, name: str, content: object, rows: int | None
    ) -> None:
        (tmp_path / name).write_text(json.dumps(content))
        assert token_rows(tmp_path) == rows


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
