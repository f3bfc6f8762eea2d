"""The table of codes: what each check claims, which checks it requires, and what to do if it fails.

A code means the same in a cell, a watched script, the guard and a saved adapter. Where a cell demands more, the check
function of the cell demands it; the title stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from finetune_compat.contract.catalog import Tier


class AppliesTo(StrEnum):
    """Subjects of a check."""

    CELL = "cell"
    SCRIPT = "script"
    """A script under `compat watch` or `compat gate --script`."""
    GUARD = "guard"
    """A user's training run under `TrainingGuard`."""
    ADAPTER = "adapter"
    """A saved adapter under `compat inspect`."""


class Severity(StrEnum):
    """How bad a failure is."""

    UNHEALTHY = "unhealthy"
    """The subject does not match its configuration or its training."""
    NOTE = "note"
    """Possibly intended."""


@dataclass(frozen=True, slots=True)
class Code:
    """One claim that holds for every healthy subject."""

    code: str
    title: str
    """The claim."""
    advice: str
    """What to do if the claim does not hold."""
    applies_to: frozenset[AppliesTo]
    requires: tuple[str, ...] = ()
    """Codes whose failure explains a failure of this code. Codes that do not apply to the subject are ignored."""
    tier: Tier = Tier.FULL
    """The tier that measures the data of this check."""
    severity: Severity = Severity.UNHEALTHY


_CELL = frozenset({AppliesTo.CELL})
_SCRIPT = frozenset({AppliesTo.SCRIPT})
_ADAPTER = frozenset({AppliesTo.ADAPTER})
_CELL_SCRIPT = _CELL | _SCRIPT
_SCRIPT_GUARD = _SCRIPT | {AppliesTo.GUARD}
_ALL = _CELL | _SCRIPT_GUARD

_FROZEN = (
    "Look at the freeze line, if there is one. Pass the base model and peft_config to the trainer instead of a "
    "PeftModel, load an adapter with is_trainable=True, or use a release that does not freeze it. Without adapters, "
    "call requires_grad_(True) before the trainer is built."
)

_SAVE_AGAIN = "Save it again with save_pretrained of the PEFT model itself"

_TABLE = (
    Code(
        "A201",
        "The trainer keeps the adapter it was given",
        "Do not pass peft_config along with a PeftModel.",
        _CELL_SCRIPT,
    ),
    Code(
        "A202",
        "A reload restores the trained values",
        "Compare the saved keys with the model's.",
        _CELL,
        requires=("C105",),
    ),
    Code(
        "A203",
        "A reload gives the same logits",
        "The saved configuration (alpha, targets), the base model or the arithmetic of a merge differs from training.",
        _CELL_SCRIPT,
        requires=("A201", "A202", "A204", "C104", "P103", "W701", "W702"),
    ),
    Code(
        "A204",
        "The adapter has an effect",
        "The adapters are disabled, merged, scaled by 0 (lora_alpha, set_scale), or not part of the forward pass.",
        _CELL_SCRIPT,
        requires=("C104", "W701"),
    ),
    Code(
        "A205",
        "A saved adapter has everything that was trained",
        "PEFT saves adapters and modules_to_save. Name the modules in modules_to_save. Use bias='all' for "
        "biases: PEFT before 0.21 does not save those of bias='lora_only'.",
        _SCRIPT,
        requires=("C104",),
    ),
    Code(
        "A206",
        "A resumed training begins with the weights of its checkpoint",
        "Look at what writes to the weights when training begins: a callback, model_init, or an own train(). Make a "
        "loaded adapter active: load it with is_trainable=True, and call set_adapter().",
        _SCRIPT,
    ),
    Code(
        "A207",
        "What is saved after training was trained",
        "Save the object that was trained, after train() has returned, with the adapter that was active; do "
        "not call unload().",
        _SCRIPT,
        requires=("W701",),
    ),
    Code(
        "B101",
        "The rows trained on are the rows given",
        "Look at what the trainer does to the data set: packing, truncation, filters, a split, the sampler.",
        _CELL,
        requires=("L501", "L502", "L503"),
    ),
    Code(
        "B102",
        "Rows are shuffled",
        "Look at the sampler, and at shuffle_dataset and group_by_length.",
        _CELL,
        requires=("B101",),
    ),
    Code(
        "B103",
        "An evaluation sees each held-out row once",
        "Look at the evaluation's data set and sampler, and at drop_last.",
        _CELL,
        requires=("E801", "B101"),
    ),
    Code(
        "B104",
        "The order of rows depends on the seed",
        "Look at seed and data_seed, and at what seeds the sampler.",
        _CELL,
        requires=("B101", "B102"),
        tier=Tier.DEEP,
    ),
    Code(
        "B105",
        "Training sees different rows",
        "Look at the data set's __getitem__ and __iter__, at the collator, and at the seed of each loader "
        "worker. In a loop of your own, build the loader's iterator once an epoch.",
        _SCRIPT,
        requires=("L501",),
    ),
    Code(
        "B106",
        "Held-out rows are not trained on",
        "Split before rows are copied, split once, and leave the held-out rows out of the training set.",
        _SCRIPT,
    ),
    Code(
        "B201",
        "A later token changes no earlier logit",
        "The model sees the tokens it must predict: look at the causal mask of the attention implementation.",
        _CELL,
        requires=("D801", "P102", "P103", "W701"),
    ),
    Code(
        "B202",
        "Padding changes no logit",
        "Look at how the attention mask is used, and at position ids.",
        _CELL,
        requires=("D801", "P102", "P103", "B201"),
    ),
    Code(
        "C101",
        "After load, exactly the unquantized parameters are trainable",
        "Look at the quantization config.",
        _CELL,
    ),
    Code("C102", "Preparation freezes every parameter", "Look at prepare_model_for_kbit_training.", _CELL),
    Code(
        "C103",
        "Wrapping leaves the adapters trainable",
        "Look at inference_mode and is_trainable.",
        _CELL_SCRIPT,
        requires=("C120",),
    ),
    Code(
        "C104", "The parameters to train are trainable when training begins", _FROZEN, _ALL, requires=("C103", "C120")
    ),
    Code("C105", "Training does not change which parameters are trainable", _FROZEN, _CELL_SCRIPT, requires=("C104",)),
    Code(
        "C106",
        "A reload requested as trainable is trainable",
        "Look at is_trainable and inference_mode.",
        _CELL,
        requires=("C120",),
    ),
    Code(
        "C107",
        "New parameters are trained",
        "PEFT freezes all but its adapters. Name a new head or the embedding in modules_to_save, or use the task_type "
        "of the model (SEQ_CLS, TOKEN_CLS); for added tokens, trainable_token_indices with their ids.",
        _SCRIPT,
        requires=("C104",),
    ),
    Code(
        "C110", "Parameter totals match the config", "The model does not match its config.", _CELL, requires=("C120",)
    ),
    Code(
        "C120",
        "Adapters are exactly on the targets",
        "Compare the matched modules with target_modules: a name may be in another part of the model, be fused with "
        "others (qkv_proj), or be gone. Experts that are parameters are named in target_parameters.",
        _CELL_SCRIPT,
    ),
    Code(
        "C121",
        "AdaLoRA allocates its ranks",
        "Call model.base_model.update_and_allocate(step) after each step of the optimizer, for example in a callback.",
        _SCRIPT,
        requires=("C104",),
    ),
    Code(
        "D801",
        "Weights have the requested dtype",
        "Look at dtype (torch_dtype before Transformers 4.56) and at the quantization config.",
        _CELL,
    ),
    Code("D802", "Adapters keep one dtype", "Look at autocast_adapter_dtype, and at casts by the trainer.", _CELL),
    Code(
        "D803",
        "Training computes in the precision asked for",
        "Look at the name of the argument (torch_dtype before Transformers 4.56, dtype later), at casts, and at what "
        "switches autocast off.",
        _SCRIPT,
    ),
    Code(
        "E801",
        "Eval loss is reported",
        "Look at label_names and at the columns of the evaluation set.",
        _CELL_SCRIPT,
        requires=("L501", "W701"),
    ),
    Code(
        "E802",
        "Eval loss falls",
        "Weights change but nothing is learned: look at gradients and labels.",
        _CELL,
        requires=("W701", "W703", "E801", "G406", "O302", "B101", "B103", "B201"),
    ),
    Code(
        "E803",
        "Eval loss moves",
        "Look at what is trainable. Evaluate again with the adapter switched off: the loss must change.",
        _SCRIPT_GUARD,
        requires=("W701", "E801"),
    ),
    Code(
        "E804",
        "Eval loss falls by more than chance",
        "Eval loss also changes when nothing is learned: look at the evaluation data, and at the noise.",
        _CELL,
        requires=("W701", "E801", "E802"),
        tier=Tier.DEEP,
    ),
    Code(
        "E805",
        "The evaluation depends on the model",
        "The evaluation does not use this model: it reads a lookup table, a cache, a copy, or another model.",
        _CELL,
        requires=("C104", "E801"),
        tier=Tier.DEEP,
    ),
    Code(
        "E806",
        "Eval loss is plausible before training",
        "Eval loss is not computed from this model's output on these rows: look at what the evaluation reports.",
        _CELL,
        requires=("L501", "E801", "G406"),
    ),
    Code(
        "E807",
        "The training loss is a number",
        "Gradients are fine, but the reported loss is wrong: look at what compute_loss and training_step return.",
        _CELL_SCRIPT,
        requires=("L501", "G401"),
    ),
    Code(
        "E808",
        "Loss does not diverge",
        "Lower the learning rate or lengthen its warm-up; look at gradient clipping and at float16.",
        _SCRIPT,
        requires=("W701", "E801", "E807"),
    ),
    Code(
        "E809",
        "The logged training loss is the loss of the batch",
        "Gradients are fine, but the reported loss is wrong: look at what compute_loss and training_step return.",
        _CELL,
        requires=("E807", "G406"),
    ),
    Code(
        "E810",
        "An evaluation is repeatable",
        "Look at model.eval(), at overridden eval() and prediction_step, and at functional dropout without training=.",
        _SCRIPT,
        requires=("W701",),
    ),
    Code(
        "E811",
        "Training makes the rows it trains on likelier",
        "Look at the sign of the loss, at maximize=True, and at labels that are shifted twice.",
        _SCRIPT,
        requires=("L501", "L503", "L507", "G401", "W701", "C104", "C105"),
    ),
    Code(
        "E812",
        "The loss is averaged once over accumulated batches",
        "Look at compute_loss and training_step: num_items_in_batch, and who divides by gradient_accumulation_steps.",
        _SCRIPT,
        requires=("L501", "L503"),
    ),
    Code(
        "E813",
        "Training changes the train loss",
        "Look at the reference model: it must be a copy that stays frozen; and at pairs with equal rows.",
        _SCRIPT,
        requires=("W701", "E803", "E807", "L506"),
    ),
    Code(
        "E814",
        "The best checkpoint is the one with the best metric",
        "Set greater_is_better=False for a loss.",
        _SCRIPT,
    ),
    Code(
        "E815",
        "Metrics depend on the predictions",
        "Look at compute_metrics: it must compare predictions with label_ids, and not labels with labels.",
        _SCRIPT,
    ),
    Code(
        "E816",
        "The best weights are put back when training ends",
        "Look at _load_best_model and _save of the trainer. Keep weights of your own as copies: "
        "copy.deepcopy(model.state_dict()).",
        _SCRIPT,
    ),
    Code(
        "E817",
        "Training does not turn preferences around",
        "Compare a few training rows with a few held-out rows: which column is chosen, and which is not.",
        _SCRIPT,
        requires=("L506",),
    ),
    Code(
        "F001",
        "The script runs to its end",
        "Read the error and the library frame that raised it.",
        _CELL_SCRIPT,
        requires=("C103", "C104"),
    ),
    Code(
        "G401",
        "Gradients arrive",
        "With gradient checkpointing, call model.enable_input_require_grads(), or set "
        'gradient_checkpointing_kwargs={"use_reentrant": False}. Without it, look for an output that is detached.',
        _ALL,
        requires=("O301", "L501"),
    ),
    Code(
        "G402",
        "Gradient accumulation changes nothing",
        "Train without accumulation, or divide the learning rate by the factor. Trainer divides the loss itself, "
        "leaves it to Accelerate, or does neither; which one depends on the release of both.",
        _CELL,
        requires=("C104", "G401"),
        tier=Tier.DEEP,
    ),
    Code(
        "G403",
        "Gradient checkpointing changes nothing",
        "Look at use_reentrant, and at whether hooks run in the recomputed forward pass.",
        _CELL,
        requires=("C104", "G401"),
        tier=Tier.DEEP,
    ),
    Code(
        "G404",
        "The gradient norm is a number",
        "Look at rows without labels, the learning rate and float16. Where the gradients themselves are finite, "
        "look at gradient clipping, and at what the trainer logs.",
        _ALL,
        requires=("G401",),
    ),
    Code(
        "G405",
        "Gradients arrive until the last step",
        "Something detaches tensors during training: look for a freeze, a hook, or a mask that fills up.",
        _CELL,
        requires=("G401",),
    ),
    Code(
        "G406",
        "The gradient is that of the loss",
        "Compare with one backward pass of your own: look at what scales the loss, at what divides it, and at hooks.",
        _CELL,
        requires=("C104", "G401", "L501", "L503"),
    ),
    Code(
        "G407",
        "The logged gradient norm is the norm of the gradient",
        "Gradients are fine, but the logged norm is wrong: look at gradient clipping, and at what it returns.",
        _CELL,
        requires=("G404",),
    ),
    Code(
        "G408",
        "Each step begins without old gradients",
        "Call zero_grad() of the optimizer in every step, and look at what overrides zero_grad or training_step.",
        _SCRIPT,
        requires=("O301",),
    ),
    Code(
        "G409",
        "Completions have different rewards",
        "Print the reward function's arguments and results: the column's name, special tokens, a cap, a type.",
        _SCRIPT,
    ),
    Code(
        "L501",
        "Rows have labels",
        'Look at next(iter(trainer.get_train_dataloader()))["labels"]: at the collator, the mask, the maximum '
        "length and the chat template.",
        _ALL,
    ),
    Code(
        "L502",
        "The end token of a row is a label",
        "Where the pad token is the end token, give the tokenizer a separate pad token. Otherwise look at the chat "
        "template, the maximum length and what masks labels; without any end token, add one to each row.",
        _CELL_SCRIPT,
        requires=("L501", "L503"),
    ),
    Code(
        "L503",
        "Labels are the tokens of their row",
        "The model shifts labels by itself: a collator must not.",
        _CELL_SCRIPT,
        requires=("L501",),
    ),
    Code(
        "L504",
        "Padding is no label",
        "Set labels to -100 where attention_mask is 0: a copy of padded input_ids has labels for padding.",
        _SCRIPT,
        requires=("L501", "L503"),
    ),
    Code(
        "L505",
        "What the data mask is no label",
        "DataCollatorForLanguageModeling replaces labels. DataCollatorForSeq2Seq pads and keeps them.",
        _SCRIPT,
        requires=("L501",),
    ),
    Code(
        "L506",
        "Labels and pairs tell rows apart",
        "Look at how labels are made (case, type, bool of a text), and at truncation that leaves the prompt alone.",
        _SCRIPT,
        requires=("L501",),
    ),
    Code(
        "L507",
        "Labels of a causal model are the tokens of their row",
        "Look at the collator: inputs and labels must be sorted, padded and cut together.",
        _SCRIPT,
        requires=("L503",),
    ),
    Code(
        "M901",
        "Memory is released",
        "A global object keeps tensors alive, for example a cache or the last trainer: gc.get_referrers() finds it.",
        _CELL,
    ),
    Code(
        "O301",
        "The optimizer holds the trainable parameters",
        "Set requires_grad before the trainer is built, and do not change it later. An optimizer that you build must "
        "hold all trainable parameters.",
        _ALL,
        requires=("C104",),
    ),
    Code(
        "O302",
        "A step is that of AdamW as requested",
        "Look at betas, epsilon, weight decay and max_grad_norm of the optimizer, and at what changes the gradients "
        "after the backward pass.",
        _CELL,
        requires=("O301", "R601", "G401", "W701", "W703"),
    ),
    Code(
        "O303",
        "The learning rate lasts as long as training",
        "Give the schedule the number of optimizer steps of the whole training, and a warm-up that ends within it.",
        _SCRIPT,
        requires=("O301",),
    ),
    Code(
        "O304",
        "Trained weights are not float16",
        "Load the model in float32 or bfloat16; for mixed precision set fp16=True, which keeps float32 weights.",
        _SCRIPT,
    ),
    Code(
        "P101",
        "Every option is accepted",
        "Find the option's new name and add it to cell/adapt.py, or to the objective's module in cell/objectives.",
        _CELL,
    ),
    Code(
        "P102",
        "The requested attention is used",
        "Look at attn_implementation, and at what the model class supports.",
        _CELL,
    ),
    Code(
        "P103",
        "Dropout is active in training, and only there",
        "Look at lora_dropout, at disable_dropout, and at calls of eval() and train().",
        _CELL,
        requires=("C120", "C104", "G401"),
    ),
    Code(
        "R601",
        "The learning rate follows the schedule",
        "Look at the scheduler's arguments.",
        _CELL,
        requires=("O301",),
    ),
    Code(
        "S101",
        "The configuration does not ask for inference mode",
        "To train on, load with PeftModel.from_pretrained(..., is_trainable=True). It ignores inference_mode in the "
        "file: editing the file changes nothing. Set inference_mode=False in a configuration that is used again.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S102",
        "No update is multiplied by zero",
        "Set lora_alpha (or its alpha_pattern) to what training used.",
        _ADAPTER,
    ),
    Code(
        "S103",
        "Every key of rank_pattern and alpha_pattern matches a module that has tensors",
        "PEFT ignores such keys (before 0.21 without a warning): these modules had r and lora_alpha of the adapter.",
        _ADAPTER,
        requires=("S201",),
    ),
    Code(
        "S104",
        "No name in modules_to_save is part of another",
        "Load it with PEFT 0.15 or later.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S105",
        "Neither end of a base with tied ends is changed alone",
        "Train with ensure_weight_tying=True (PEFT 0.18 and later), or leave both as they are.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S106",
        "The adapter is of the LoRA family",
        "Most checks apply only to LoRA, rsLoRA and DoRA.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S107",
        "Every tensor has a supported dtype",
        "Save the adapter in a float dtype, so that these tensors can be checked.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S108",
        "No pickled weights lie next to the safetensors file",
        "PEFT prefers the safetensors file; remove the unused file.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S109",
        "Updates start at zero",
        "Compare with a save from before training: `tensors` of --json has a digest of each.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S110",
        "The names alone show which targets are excluded",
        "Inspect the adapter with --base and --stack: PEFT then names the modules it adapts.",
        _ADAPTER,
        requires=("S201",),
        severity=Severity.NOTE,
    ),
    Code(
        "S111",
        "PEFT can load the adapter to train it on",
        "That is right for generating. To train on, wrap the base with get_peft_model and this configuration with "
        "inference_mode=False, then load the tensors with set_peft_model_state_dict. Where an encoder made the "
        "tensors (P-tuning, prefix_projection), it was not saved and cannot be trained on.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code("S201", "There is at least one tensor", f"{_SAVE_AGAIN}, after the adapters were attached.", _ADAPTER),
    Code(
        "S202",
        "Every tensor is complete",
        "Gather the parameters (DeepSpeed ZeRO-3, FSDP) before save_pretrained.",
        _ADAPTER,
    ),
    Code(
        "S203",
        "Every value is a finite number",
        "Use an earlier checkpoint, and look at loss and gradient norm from there on.",
        _ADAPTER,
    ),
    Code(
        "S204",
        "Some update has left its initial value",
        "Count the trainable parameters after the trainer is built: adapters that are frozen by then never change.",
        _ADAPTER,
        requires=("S209",),
    ),
    Code(
        "S205",
        "Every update is no longer zero",
        "Check whether these modules are frozen, or take no part in the forward pass on the training data.",
        _ADAPTER,
        requires=("S204",),
    ),
    Code(
        "S206",
        "The update of every expert is no longer zero",
        "An expert that receives no token learns nothing. If these received tokens, check whether they are frozen.",
        _ADAPTER,
        requires=("S204",),
        severity=Severity.NOTE,
    ),
    Code(
        "S207",
        "No tensor that starts at other values is all zero",
        "Use an earlier checkpoint; find what writes to the weights between training and saving.",
        _ADAPTER,
    ),
    Code(
        "S208",
        "No two factors are identical",
        "Check whether layers share memory, or were initialised from the same seed.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S209",
        "The trainer logged a gradient",
        "Count the trainable parameters after the trainer is built, and run the training script under compat watch: it "
        "names the line that froze them. A norm that is not finite: lower the learning rate, or train in bfloat16.",
        _ADAPTER,
    ),
    Code(
        "S210",
        "The trainer logged a loss that is a number",
        "Look at rows without labels, at the learning rate and at float16; use a checkpoint from before.",
        _ADAPTER,
        requires=("S209",),
    ),
    Code(
        "S301",
        "Every name is one that PEFT writes",
        f"{_SAVE_AGAIN}, not of a wrapper around it, and not through state_dict().",
        _ADAPTER,
    ),
    Code("S302", "Every factor has its other factor", "Use a save that contains both factors.", _ADAPTER),
    Code(
        "S303",
        "Every update has the rank of the configuration",
        "Weights and configuration are from different runs, or r was edited: use files of the same run.",
        _ADAPTER,
        requires=("S202",),
    ),
    Code(
        "S304",
        "Every target has tensors",
        "Compare with the names of the base's modules: it may fuse these (qkv_proj), or hold experts as parameters "
        "(target_parameters).",
        _ADAPTER,
        requires=("S201",),
    ),
    Code(
        "S305",
        "A target names every module that has an update",
        "Weights and configuration are from different runs; PEFT drops tensors that the configuration does not name.",
        _ADAPTER,
    ),
    Code(
        "S306",
        "Every module in modules_to_save has tensors",
        "Loading fails, or initialises them at random (PEFT 0.13). Check whether the base has them, and save again.",
        _ADAPTER,
        requires=("S201",),
    ),
    Code(
        "S307",
        "There is a magnitude where use_dora is true, and nowhere else",
        "Weights and configuration are from different runs, or use_dora was edited.",
        _ADAPTER,
    ),
    Code(
        "S308",
        "Every weight saved as a full copy was requested",
        "PEFT overwrites weights of the base with these copies when it loads the adapter. If intended, name the "
        "modules in modules_to_save.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S309",
        "Trained biases are in the file",
        "If the base has biases, train with PEFT 0.21 or later, or with bias='all'.",
        _ADAPTER,
        requires=("S201",),
        severity=Severity.NOTE,
    ),
    Code(
        "S310",
        "Rows that were added to the vocabulary are saved",
        "After a reload they have random values. Train and save them: modules_to_save=['embed_tokens', 'lm_head'], or "
        "trainable_token_indices; or save with save_embedding_layers=True.",
        _ADAPTER,
    ),
    Code(
        "S401",
        "The adapter loads",
        "Use the PEFT that saved it, or a newer one; options that are not set may be removed from adapter_config.json.",
        _ADAPTER,
    ),
    Code(
        "S402",
        "Every parameter of the adapter has a tensor in the file",
        "PEFT only warns, or is silent. Load the adapter with the versions that saved it, or rename its tensors.",
        _ADAPTER,
    ),
    Code(
        "S403",
        "Every tensor has a place in the model",
        "Compare these names with the model's: Transformers moved modules of vision-language models in 4.52.",
        _ADAPTER,
    ),
    Code(
        "S404",
        "Every tensor has the shape that the model expects",
        "The adapter was trained on another base, or on this base with a resized vocabulary.",
        _ADAPTER,
    ),
    Code(
        "S405",
        "PEFT supports every option that is switched on",
        "Load the adapter with a PEFT that supports these options: this one ignores them.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S406",
        "Names and shapes are enough to foretell whether it loads",
        "Load it once with its base, and compare the answers with those after training.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "W701",
        "Trained weights change",
        "Optimizer and gradients are fine, so look at the optimizer step: the learning rate and its schedule. Train in "
        "float32.",
        _ALL,
        requires=("C104", "O301", "G401", "R601"),
    ),
    Code(
        "W702",
        "Frozen weights stay",
        "Something writes to the base model: a merge, a cast in place, or an optimizer that holds frozen weights.",
        _CELL_SCRIPT,
        requires=("C104",),
    ),
    Code(
        "W703",
        "Trained weights change until the last step",
        "Optimizer and gradients are fine, so look at the optimizer step and at the schedule.",
        _CELL,
        requires=("W701", "G405"),
    ),
    Code(
        "W704",
        "All processes train the same weights",
        "Look at no_sync(), at losses of the unwrapped model, and at changes after the model was wrapped.",
        _SCRIPT,
        requires=("W701",),
    ),
)

CODES: Mapping[str, Code] = MappingProxyType({code.code: code for code in _TABLE})
"""Every code, by name."""

ENDING = "F001"
"""The check that fails if an error ends a flow and no other check explains the error."""

DEEP_CHECKS = frozenset(code.code for code in _TABLE if code.tier is Tier.DEEP)
"""Codes of the checks whose data only the deep tier measures."""
