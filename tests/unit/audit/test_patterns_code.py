"""Single calls, imports and functions."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_builders import HEAD, examined, hits, one, releases


class TestArguments:
    def test_a_removed_argument_has_its_new_name(self, tmp_path: Path) -> None:
        """From the signatures of both releases."""
        text = HEAD + "SFTConfig('out', max_seq_length=8)\n"
        finding = one(examined(tmp_path, text), "removed-argument")
        assert finding.why == "SFTConfig of TRL 0.22.2 with Transformers 4.56.0 has no max_seq_length: use max_length"
        assert hits(examined(tmp_path, text, releases(trl="0.19.1", transformers="4.54.1"))) == []

    def test_an_argument_that_no_release_had_is_not_told(self, tmp_path: Path) -> None:
        """It may be one of the project's own class."""
        assert hits(examined(tmp_path, HEAD + "SFTConfig('out', my_own=8)\n")) == []

    def test_code_that_asks_for_the_release_is_believed(self, tmp_path: Path) -> None:
        """It is read with that release."""
        text = (
            HEAD + "import trl\nfrom packaging.version import Version\n"
            "if Version(trl.__version__) < Version('0.20'):\n    SFTConfig('out', max_seq_length=8)\n"
        )
        assert hits(examined(tmp_path, text)) == []

    def test_a_removed_name_in_a_try_is_not_told(self, tmp_path: Path) -> None:
        """The script is ready for both."""
        name = "from trl import DataCollatorForCompletionOnlyLM\n"
        assert [pattern for pattern, *_ in hits(examined(tmp_path, name))] == ["removed-name"]
        assert hits(examined(tmp_path, f"try:\n    {name}except ImportError:\n    pass\n")) == []


TOKENIZED = "from transformers import AutoTokenizer\ntok = AutoTokenizer.from_pretrained('m')\ntok.pad_token = {}\n"


@pytest.mark.parametrize(
    "mask",
    [
        "labels[labels == tok.pad_token_id] = -100",
        "labels = [-100 if one == tok.pad_token_id else one for one in ids]",
        "labels = [one if one != tok.pad_token_id else -100 for one in ids]",
        "labels = ids.masked_fill(ids == tok.pad_token_id, -100)",
        "labels = torch.where(ids == tok.pad_token_id, -100, ids)",
        "labels = torch.where(ids != tok.pad_token_id, ids, -100)",
    ],
)
def test_masking_padding_masks_the_end_if_they_are_one_token(tmp_path: Path, mask: str) -> None:
    """The model never learns to stop. With a padding token of its own it is right."""
    text = f"def collate(ids, labels):\n    {mask}\n    return labels\n"
    bad, good = (TOKENIZED.format(pad) + text for pad in ("tok.eos_token", "'<pad>'"))
    assert [name for name, *_ in hits(examined(tmp_path, bad))] == ["pad-is-end"]
    assert hits(examined(tmp_path, good)) == []


@pytest.mark.parametrize(
    "mask",
    [
        "labels[labels == tok.bos_token_id] = -100",
        "labels[labels == tok.pad_token_id] = 0",
        "labels[mask == 0] = -100",
        "labels = [-100 if one != tok.pad_token_id else one for one in ids]",
    ],
)
def test_other_masks_are_not_told(tmp_path: Path, mask: str) -> None:
    """Another token, another value, or the attention mask."""
    text = TOKENIZED.format("tok.eos_token") + f"def collate(ids, labels, mask):\n    {mask}\n    return labels\n"
    assert hits(examined(tmp_path, text)) == []


METRICS = (
    HEAD + "def metrics(given):\n    {}\n    return {{'accuracy': (a == b).mean()}}\n"
    "Trainer('m', TrainingArguments('out'), compute_metrics=metrics).train()\n"
)
EVALUATES = (
    HEAD + "class Mine(Trainer):\n    def evaluate(self, question):\n        {}\n"
    "Mine('m', TrainingArguments('out')).train()\n"
)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (
            METRICS.format("a = b = given.label_ids"),
            METRICS.format("a, b = given.predictions.argmax(-1), given.label_ids"),
        ),
        (
            METRICS.format("_, b = given\n    a = b"),
            METRICS.format("a, b = given"),
        ),
        (
            EVALUATES.format("return self.answers.get(question)"),
            EVALUATES.format("return self.model.generate(question)"),
        ),
        (EVALUATES.format("return {'eval_loss': 0.0}"), EVALUATES.format("return super().evaluate(question)")),
    ],
)
def test_an_evaluation_asks_the_model(tmp_path: Path, bad: str, good: str) -> None:
    """One that takes its answers from the data measures nothing."""
    assert "evaluation-looks-up" in [name for name, *_ in hits(examined(tmp_path, bad))]
    assert "evaluation-looks-up" not in [name for name, *_ in hits(examined(tmp_path, good))]


def test_an_argument_of_a_trainer_of_the_project_is_one_of_the_library(tmp_path: Path) -> None:
    """Unless its own constructor takes it. One that no release had is its own."""
    given = "Mine('m', SFTConfig('out'), {}=None).train()\n"
    plain = HEAD + "class Mine(SFTTrainer):\n    pass\n"
    own = HEAD + "class Mine(SFTTrainer):\n    def __init__(self, *args, tokenizer=None): ...\n"
    assert [name for name, *_ in hits(examined(tmp_path, plain + given.format("tokenizer")))] == ["removed-argument"]
    for text in (plain + given.format("mine"), plain + given.format("callbacks"), own + given.format("tokenizer")):
        assert hits(examined(tmp_path, text)) == []
