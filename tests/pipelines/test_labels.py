"""The instruments of labels, targets, new parameters and saves, on this stack's torch, Transformers and PEFT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from finetune_compat.cell.script import saves
from finetune_compat.cell.script.additions import Additions
from finetune_compat.cell.script.labels import LessonLog, Tokens, labelled, listening
from finetune_compat.cell.script.stories import Story
from finetune_compat.cell.script.targets import setup_of
from finetune_compat.contract.script import AdapterSetup, Lesson
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

PAD, END, A, B, C, D = range(6)
MASK = -100


def lesson(ids: list[list[int]], labels: list[list[int]], attended: list[list[int]] | None, pad: int = PAD) -> Lesson:
    """What one batch teaches."""
    log = LessonLog(Tokens((END,), pad, None))
    given = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
    if attended is not None:
        given["attention_mask"] = torch.tensor(attended)
    batch = labelled(given)
    assert batch is not None
    log.note(batch, by_model=True)
    found = log.lesson(shifts=True, masked_by_data=None)
    assert found is not None
    return found


def test_answers_with_their_end() -> None:
    """A prompt of two tokens, an answer with its end, and padding."""
    found = lesson([[A, B, C, END, PAD]], [[MASK, MASK, C, END, MASK]], [[1, 1, 1, 1, 0]])
    assert (found.labels, found.masked, found.ends, found.ends_learned) == (2, 1, 1, 1)
    assert (found.on_padding, found.foreign, found.unlabelled) == (0, 0, 0)
    assert found.shown == f"{A} {B} [{C} {END}] (1 x padding)"


@pytest.mark.parametrize("attended", [[[1, 1, 1, 0, 0]], None])
def test_an_end_token_that_pads_is_masked_as_padding(attended: list[list[int]] | None) -> None:
    """The first end token after the row's own tokens is its end, and the others are padding."""
    found = lesson([[A, B, END, END, END]], [[A, B, MASK, MASK, MASK]], attended, pad=END)
    assert (found.ends, found.ends_learned, found.pad_is_end) == (1, 0, True)


def test_an_end_token_that_attention_takes_for_padding() -> None:
    found = lesson([[A, B, END, END, END]], [[A, B, MASK, MASK, MASK]], [[1, 1, 0, 0, 0]], pad=END)
    assert (found.ends, found.ends_learned) == (0, 0)
    kept = lesson([[A, B, END, END, END]], [[A, B, END, MASK, MASK]], [[1, 1, 0, 0, 0]], pad=END)
    assert (kept.ends_learned, kept.on_padding) == (1, 0)


def test_padding_that_is_learned_is_counted_but_for_one_token_of_a_row() -> None:
    row = [A, B, C, END, PAD, PAD, PAD, PAD]
    assert lesson([row], [row], [[1, 1, 1, 1, 0, 0, 0, 0]]).on_padding == 3
    assert lesson([row], [row], None).on_padding == 3


def test_the_first_token_of_a_row_is_no_end() -> None:
    """Some models begin a row with their end token."""
    found = lesson([[END, A, B, C]], [[END, A, B, C]], None)
    assert (found.ends, found.ends_learned) == (0, 0)


def test_labels_that_are_the_next_token() -> None:
    found = lesson([[A, B, C, END]], [[B, C, END, MASK]], None)
    assert (found.foreign, found.ahead) == (3, 3)


def t(*row: int) -> torch.Tensor:
    return torch.tensor([row])


ONE = torch.ones(1, 4, dtype=torch.long)

PREFERENCES = {
    "TRL 0.29": {
        "input_ids": torch.tensor([[A, B, C, END], [A, B, D, END]]),
        "attention_mask": torch.ones(2, 4, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]]),
    },
    "TRL 0.12": {
        "prompt_input_ids": t(A, B),
        "prompt_attention_mask": t(1, 1),
        "chosen_input_ids": t(C, END),
        "chosen_attention_mask": t(1, 1),
        "rejected_input_ids": t(D, END),
        "rejected_attention_mask": t(1, 1),
    },
    "ORPO": {
        "prompt_input_ids": t(A, B),
        "prompt_attention_mask": t(1, 1),
        "chosen_input_ids": t(A, B, C, END),
        "chosen_labels": t(MASK, MASK, C, END),
        "chosen_attention_mask": ONE,
        "rejected_input_ids": t(A, B, D, END),
        "rejected_labels": t(MASK, MASK, D, END),
        "rejected_attention_mask": ONE,
    },
}


@pytest.mark.parametrize("release", PREFERENCES)
def test_preferences_have_the_labels_of_both_completions(release: str) -> None:
    batch = labelled(PREFERENCES[release])
    assert batch is not None
    assert batch.ids.tolist() == [[A, B, C, END], [A, B, D, END]]
    assert batch.labels.tolist() == [[MASK, MASK, C, END], [MASK, MASK, D, END]]


def test_unpaired_preferences_before_trl_1() -> None:
    batch = labelled(
        {"completion_input_ids": t(A, C), "completion_labels": t(MASK, C), "completion_attention_mask": t(1, 1)}
    )
    assert batch is not None and batch.labels.tolist() == [[MASK, C]]


@pytest.mark.parametrize(
    "inputs",
    [
        [{"prompt": "a"}],
        {"prompt_ids": t(A), "completion_ids": t(B), "completion_mask": t(1)},
        {"input_ids": t(A, B), "attention_mask": t(1, 1)},
        {"input_ids": t(A, B), "labels": torch.tensor([1])},
    ],
)
def test_batches_without_a_label_for_each_token(inputs: Any) -> None:
    """Online reinforcement learning, a reward model, a classifier."""
    assert labelled(inputs) is None


def test_labels_that_the_loss_takes_away_are_noted() -> None:
    """Label smoothing removes them before the forward, and a loss of the user's own may do so."""
    trainer = SimpleNamespace(model=nn.Linear(1, 1))
    trainer.compute_loss = lambda model, inputs: inputs.pop("labels").sum()
    original, log = trainer.compute_loss, LessonLog(Tokens((END,), PAD, None))
    with listening(trainer, log, lambda error: pytest.fail(str(error))):
        trainer.compute_loss(trainer.model, {"input_ids": t(A, B, END), "labels": t(A, B, END)})
        trainer.model.eval()
        trainer.compute_loss(trainer.model, {"input_ids": t(A, B), "labels": t(A, B)})
    assert trainer.compute_loss is original
    found = log.lesson(shifts=True, masked_by_data=None)
    assert found is not None and (found.rows, found.ends_learned, found.shifts) == (1, 1, False)


class Heard(nn.Module):
    """A model that receives labels."""

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return labels.sum()


def test_a_batch_that_policy_and_reference_receive_counts_once() -> None:
    """DPO of recent releases gives the labels to both, and both are one model with other adapters."""
    trainer = SimpleNamespace(model=Heard())

    def compute_loss(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**inputs) + model(**{name: value.clone() for name, value in inputs.items()})

    trainer.compute_loss = compute_loss
    log = LessonLog(Tokens((END,), PAD, None))
    with listening(trainer, log, lambda error: pytest.fail(str(error))):
        trainer.compute_loss(trainer.model, {"input_ids": t(A, B, END), "labels": t(A, B, END)})
    found = log.lesson(shifts=True, masked_by_data=None)
    assert found is not None and (found.rows, found.shifts) == (1, True)


# --------------------------------------------------------------------------------------------------- targets and heads


def config() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=PAD,
    )


def setup(**options: Any) -> AdapterSetup:
    """The setup of a tiny model with LoRA."""
    found = setup_of(get_peft_model(Qwen2ForCausalLM(config()), LoraConfig(r=4, lora_alpha=8, **options)))
    assert found is not None
    return found


# PEFT 0.21 warns too. In a session of pytest that takes warnings for errors, this one is no failure.
@pytest.mark.filterwarnings("ignore:.*did not match any targeted module:RuntimeWarning")
def test_names_that_no_module_has_are_not_reached() -> None:
    found = setup(target_modules=["q_proj", "fc_out"], rank_pattern={"mlp.c_proj": 8, "self_attn.q_proj": 4})
    assert (found.asked, found.unreached) == (("fc_out", "q_proj"), ("fc_out",))
    assert found.patterns_unreached == ("mlp.c_proj",)
    assert found.scaling == {"2": 2}


def test_a_parameter_of_that_name_is_no_target() -> None:
    """Experts of Transformers 5 are parameters: `down_proj` is one."""
    base = Qwen2ForCausalLM(config())
    base.model.layers[0].experts = nn.Module()
    base.model.layers[0].experts.w_down = nn.Parameter(torch.zeros(2, 4, 4))
    found = setup_of(get_peft_model(base, LoraConfig(target_modules=["q_proj", "w_down"])))
    assert found is not None and found.unreached == ("w_down",)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["down_proj"]},
        {"target_modules": ["q_proj"], "rank_pattern": {r".*layers\.0.*": 8}, "alpha_pattern": {"q_proj": 16}},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q_proj|fc_out)"},
    ],
)
def test_what_a_configuration_leaves_out_on_purpose_is_reached(options: dict[str, Any]) -> None:
    found = setup(**options)
    assert (found.unreached, found.patterns_unreached) == ((), ())


def classifier(**options: Any) -> tuple[nn.Module, Story]:
    base = Qwen2ForSequenceClassification(config())
    return get_peft_model(base, LoraConfig(target_modules=["q_proj"], **options)), Story(base)


def test_a_new_head_that_stays_is_found() -> None:
    model, story = classifier()
    found = Additions(model, story).compared((), Tokens((END,), PAD, None))
    assert found is not None and (found.heads, found.heads_trained) == (("score",), ())


def test_a_new_head_that_trains_is_found() -> None:
    """PEFT adds it to modules_to_save by the task type."""
    model, story = classifier(task_type="SEQ_CLS")
    found = Additions(model, story).compared((), Tokens((END,), PAD, None))
    assert found is not None and (found.heads, found.heads_trained) == ((), ("score",))


def test_a_head_that_loading_found_is_not_new() -> None:
    model, story = classifier()
    story.missing = frozenset()
    assert Additions(model, story).compared((), Tokens((END,), PAD, None)) is None


def test_added_rows_that_occur_and_stay_are_found() -> None:
    base = Qwen2ForCausalLM(config())
    story = Story(base)
    base.resize_token_embeddings(18)
    story.rows_before, story.rows_now = 16, 18
    additions = Additions(base, story)
    with torch.no_grad():
        base.get_input_embeddings().weight[17] += 1
    found = additions.compared((16, 17), Tokens((END,), PAD, None))
    assert found is not None and (found.rows, found.rows_unchanged) == (2, ("16",))
    assert additions.compared((), Tokens((END,), PAD, None)) is None


def test_a_bias_that_was_trained_beside_the_adapter_and_not_saved_is_found(tmp_path: Path) -> None:
    model = get_peft_model(Qwen2ForCausalLM(config()), LoraConfig(target_modules=["q_proj"]))
    norm = model.base_model.model.model.norm.weight
    norm.requires_grad_(True)
    outside = saves.Outside(model)
    assert outside.changed() == ()
    with torch.no_grad():
        norm += 1
    model.save_pretrained(tmp_path)
    found = saves.compared(model, tmp_path, outside.changed())
    assert found is not None and found.trained == 1
    assert [name.rpartition("model.")[2] for name in found.missing] == ["norm.weight"]


def test_a_bias_that_peft_trains_is_saved(tmp_path: Path) -> None:
    model = get_peft_model(Qwen2ForCausalLM(config()), LoraConfig(target_modules=["q_proj"], bias="all"))
    outside = saves.Outside(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(int(parameter.requires_grad))
    model.save_pretrained(tmp_path)
    found = saves.compared(model, tmp_path, outside.changed())
    assert found is not None and found.trained > 0
    assert found.missing == ()


def test_a_head_that_a_script_leaves_out_of_its_file_is_found() -> None:
    model, _ = classifier(task_type="SEQ_CLS")
    before = saves.Savings(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=int(parameter.requires_grad))
    state = {name: values.clone() for name, values in model.state_dict().items()}
    adapters = {name: values for name, values in state.items() if "lora_" in name}
    found = saves.of_tensors(model, adapters, before)
    assert found is not None and found.trained == 1
    assert "score.modules_to_save" in found.missing[0]
    # All of it, the head alone, and weights of another type show nothing that is missing.
    heads = {"head": next(values for name, values in state.items() if "score.modules_to_save" in name)}
    for saved in (state, heads, {name: values.half() for name, values in adapters.items()}):
        assert saves.of_tensors(model, saved, before) is None
