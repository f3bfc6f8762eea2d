"""Every pattern that `compat audit` looks for in code: what is wrong, what it does, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_compat.checks.harm import Harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One way to write code that does not train as it seems to."""

    id: str
    title: str
    harm: Harm
    remedy: str
    issue: str = ""
    """The entry of the ledger whose windows say on which versions; empty: on all versions."""


_TABLE = (
    Pattern(
        id="wrapped-model",
        title="A PeftModel on a quantized base goes to SFTTrainer without peft_config",
        harm=Harm.LEARNS_NOTHING,
        remedy="Hand the base model and peft_config to the trainer.",
        issue="trl#3926",
    ),
    Pattern(
        id="wrapped-model-and-config",
        title="A PeftModel goes to a trainer together with a peft_config",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Hand over the PeftModel without peft_config, or the base model with it.",
        issue="adapter-replaced",
    ),
    Pattern(
        id="prepared-after-wrapping",
        title="prepare_model_for_kbit_training is called on a model that has its adapters",
        harm=Harm.LEARNS_NOTHING,
        remedy="Prepare the base model first, then call get_peft_model.",
    ),
    Pattern(
        id="inference-mode",
        title="A LoRA configuration for training has inference_mode=True",
        harm=Harm.LEARNS_NOTHING,
        remedy="Set inference_mode=False.",
        issue="inference-mode",
    ),
    Pattern(
        id="loaded-frozen",
        title="An adapter that is trained on is loaded without is_trainable=True",
        harm=Harm.LEARNS_NOTHING,
        remedy="Load it with is_trainable=True.",
        issue="trl#6700",
    ),
    Pattern(
        id="frozen-by-code",
        title="The code switches off the gradients of the model that it trains, and not on again",
        harm=Harm.LEARNS_NOTHING,
        remedy="Freeze before get_peft_model, or switch the adapters' gradients on again.",
    ),
    Pattern(
        id="second-adapter",
        title="A second adapter is loaded frozen, which freezes the active one in PEFT 0.18 to 0.20",
        harm=Harm.LEARNS_NOTHING,
        remedy="Load it with is_trainable=True, or call set_adapter for the active one afterwards.",
    ),
    Pattern(
        id="saved-with-conversion",
        title="Saving with conversion to plain LoRA in the middle of training freezes the adapter from PEFT 0.18.1 on",
        harm=Harm.LEARNS_NOTHING,
        remedy="Convert after training, from what was saved.",
    ),
    Pattern(
        id="checkpointing-cuts-gradients",
        title="Reentrant gradient checkpointing of a PeftModel whose inputs require no gradient",
        harm=Harm.CRASHES,
        remedy="Pass gradient_checkpointing_kwargs={'use_reentrant': False}, or call enable_input_require_grads().",
        issue="transformers#42489",
    ),
    Pattern(
        id="vision-adapters-cut-off",
        title="Reentrant gradient checkpointing cuts off adapters on a vision encoder",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Pass gradient_checkpointing_kwargs={'use_reentrant': False}.",
        issue="vision-adapters-cut-off",
    ),
    Pattern(
        id="pad-is-end",
        title="The padding token is the end token, and the collator masks padding in the labels",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Give the tokenizer a padding token of its own, or mask labels by the attention mask.",
    ),
    Pattern(
        id="accumulation",
        title="Accumulated batches give another gradient than one large batch",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Use gradient_accumulation_steps=1, or a release of Transformers outside the window.",
        issue="accumulation-divided-twice",
    ),
    Pattern(
        id="label-smoothing-accumulation",
        title="Label smoothing and accumulated batches: the loss is not divided by their number",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Leave out label_smoothing_factor, or use gradient_accumulation_steps=1.",
    ),
    Pattern(
        id="no-task-type",
        title="A LoRA configuration for Trainer has no task_type",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Set task_type, such as CAUSAL_LM: without it there is no eval_loss, and a new head is frozen.",
    ),
    Pattern(
        id="head-not-trained",
        title="A new head of the model is neither trained nor saved",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Set task_type to SEQ_CLS or TOKEN_CLS, or name the head in modules_to_save.",
    ),
    Pattern(
        id="new-tokens-untrained",
        title="The vocabulary grows, and the new rows are neither trained nor saved",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Name embed_tokens and lm_head in modules_to_save, or set trainable_token_indices.",
    ),
    Pattern(
        id="removed-argument",
        title="An argument that this release does not take",
        harm=Harm.CRASHES,
        remedy="Use the new name.",
    ),
    Pattern(
        id="removed-name",
        title="An import that this release does not have",
        harm=Harm.CRASHES,
        remedy="Import it from where it moved to, or use what replaced it.",
    ),
    Pattern(
        id="attention",
        title="The model for training is loaded with another attention than the project's rule says",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Load the model with the attention of training-attention in [tool.finetune-compat].",
    ),
    Pattern(
        id="evaluation-looks-up",
        title="An evaluation takes the answers from the data and not from the model",
        harm=Harm.LEARNS_SOMETHING_ELSE,
        remedy="Let the model generate or score the answers.",
    ),
    Pattern(
        id="adapters-off",
        title="Adapters are disabled, merged or unloaded before training, and not put back",
        harm=Harm.LEARNS_NOTHING,
        remedy="Use the context manager disable_adapter(), or undo the call before training.",
    ),
    Pattern(
        id="batch-samples",
        title="DPOTrainer's get_batch_samples is called by Trainer with other arguments",
        harm=Harm.CRASHES,
        remedy="Use TRL 0.12 or later, or Transformers before 4.46.",
        issue="trl#2275",
    ),
    Pattern(
        id="needs-triton",
        title="SFTTrainer and DPOTrainer of this release need Triton",
        harm=Harm.CRASHES,
        remedy="Use another release of TRL, or install Triton.",
        issue="sft-needs-triton",
    ),
    Pattern(
        id="labels-dropped",
        title="SFTTrainer drops the labels of rows that the code tokenized",
        harm=Harm.CRASHES,
        remedy="Pass remove_unused_columns=False.",
        issue="trl#3589",
    ),
)

PATTERNS: Mapping[str, Pattern] = {pattern.id: pattern for pattern in _TABLE}
"""By id."""
