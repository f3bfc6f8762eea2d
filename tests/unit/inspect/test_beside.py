"""What lies beside a saved adapter, and what it says about the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adapters import card, logged
from finetune_compat.inspect.beside import read_beside, token_rows


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
