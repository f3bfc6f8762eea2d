"""The one table of codes: what each check claims, what it presupposes, and what to do where it fails.

A code means the same in a cell, a watched script, the guard and a saved adapter. Where a cell demands more, its check
function does, not the title.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from finetune_compat.contract.catalog import Tier


class AppliesTo(StrEnum):
    """What a check looks at."""

    CELL = "cell"
    SCRIPT = "script"
    """A script under `compat watch` or `compat gate --script`."""
    GUARD = "guard"
    """A run of the user that `TrainingGuard` follows."""
    ADAPTER = "adapter"
    """A saved adapter under `compat inspect`."""


class Severity(StrEnum):
    """How bad a failure is."""

    UNHEALTHY = "unhealthy"
    """The subject is not what its configuration and its training promise."""
    NOTE = "note"
    """Worth knowing, and possibly intended."""


@dataclass(frozen=True, slots=True)
class Code:
    """One claim about something healthy."""

    code: str
    title: str
    """The claim."""
    advice: str
    """What to do where the claim does not hold."""
    applies_to: frozenset[AppliesTo]
    requires: tuple[str, ...] = ()
    """Codes whose failure already explains a failure of this one. Only those of the same subject count."""
    tier: Tier = Tier.QUICK
    """Which tier measures what it looks at."""
    severity: Severity = Severity.UNHEALTHY


_CELL = frozenset({AppliesTo.CELL})
_SCRIPT = frozenset({AppliesTo.SCRIPT})
_ADAPTER = frozenset({AppliesTo.ADAPTER})
_CELL_SCRIPT = _CELL | _SCRIPT
_SCRIPT_GUARD = _SCRIPT | {AppliesTo.GUARD}
_ALL = _CELL | _SCRIPT_GUARD

_FROZEN = (
    "Look at the freeze line, where there is one. Hand the base model and peft_config to the trainer instead of a "
    "PeftModel, load an adapter with is_trainable=True, or use a release that does not freeze it. Without adapters, "
    "call requires_grad_(True) before the trainer is made."
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
        "A202", "A reload gives what was trained", "Compare the saved keys with the model's.", _CELL, requires=("C105",)
    ),
    Code(
        "A203",
        "A reload answers like what was trained",
        "The saved configuration is another one (alpha, targets), or the base model is.",
        _CELL,
        requires=("A201", "A202", "A204", "W702"),
    ),
    Code(
        "A204",
        "The adapter has an effect",
        "The adapters are disabled, merged, or not on the path the model takes.",
        _CELL,
        requires=("C104", "W701"),
    ),
    Code("C101", "Load leaves trainable exactly what is not quantized", "Look at the quantization config.", _CELL),
    Code("C102", "Preparation freezes every parameter", "Look at prepare_model_for_kbit_training.", _CELL),
    Code(
        "C103",
        "Wrapping leaves the adapters trainable",
        "Look at inference_mode and is_trainable.",
        _CELL_SCRIPT,
        requires=("C120",),
    ),
    Code("C104", "What should train is trainable when training begins", _FROZEN, _ALL, requires=("C103", "C120")),
    Code("C105", "Training leaves trainable what it was given", _FROZEN, _CELL_SCRIPT, requires=("C104",)),
    Code(
        "C106",
        "A reload asked to be trainable is trainable",
        "Look at is_trainable and inference_mode.",
        _CELL,
        requires=("C120",),
    ),
    Code("C110", "Totals follow from the config", "The model is not what its config says.", _CELL, requires=("C120",)),
    Code(
        "C120",
        "Adapters sit where the targets are",
        "Compare the matched modules with target_modules: a name may exist in another part of the model, or no more.",
        _CELL,
    ),
    Code(
        "D801",
        "Weights have the dtype asked for",
        "Look at dtype (torch_dtype before Transformers 4.56) and at the quantization config.",
        _CELL,
    ),
    Code("D802", "Adapters keep one dtype", "Look at autocast_adapter_dtype, and at what the trainer casts.", _CELL),
    Code(
        "E801",
        "Eval loss is reported",
        "Look at label_names and the evaluation's columns.",
        _CELL_SCRIPT,
        requires=("L501", "W701"),
    ),
    Code(
        "E802",
        "Eval loss falls",
        "Everything moves but nothing is learned: look at gradients and labels.",
        _CELL,
        requires=("W701", "W703", "E801"),
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
        "It learns beyond the null",
        "Eval loss moves without anything being learned: look at what the evaluation is given, and at the noise.",
        _CELL,
        requires=("W701", "E801", "E802"),
        tier=Tier.DEEP,
    ),
    Code(
        "E805",
        "The evaluation depends on the model",
        "The evaluation does not look at this model: a look-up, a cache, a copy, or another model.",
        _CELL,
        requires=("C104", "E801"),
        tier=Tier.DEEP,
    ),
    Code(
        "E806",
        "Eval loss is plausible before training",
        "It is not computed from what this model says of these rows: look at what the evaluation reports.",
        _CELL,
        requires=("E801",),
    ),
    Code(
        "E807",
        "The training loss is a number",
        "Gradients are fine, so it is the loss that is reported: look at what compute_loss and training_step return.",
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
        "F001",
        "It runs to its end",
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
        "Look at use_reentrant, and at whether hooks are applied in the forward that is computed again.",
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
        "Gradients arrive to the end",
        "Something cut tensors off in the middle of training: look for a freeze, a hook, or a mask that fills up.",
        _CELL,
        requires=("G401",),
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
        "The end of a row is a label",
        "The pad token is probably the end token: give the tokenizer a pad token of its own.",
        _CELL,
        requires=("L501",),
    ),
    Code(
        "M901",
        "Memory is given back",
        "Something global keeps tensors alive, such as a cache or the last trainer: gc.get_referrers() names it.",
        _CELL,
    ),
    Code(
        "O301",
        "The optimizer holds what is trainable",
        "Set requires_grad before the trainer is made and leave it so. An optimizer that you build must hold all "
        "trainable parameters.",
        _ALL,
        requires=("C104",),
    ),
    Code(
        "P101",
        "Every option is accepted",
        "Find the option's new name and add it to cell/adapt.py, or to the objective's module in cell/objectives.",
        _CELL,
    ),
    Code(
        "P102",
        "The attention asked for is used",
        "Look at attn_implementation, and at what the model class supports.",
        _CELL,
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
        "Train on with PeftModel.from_pretrained(..., is_trainable=True), which does not ask the file: editing it "
        "there changes nothing. Set inference_mode=False in a configuration that is used again.",
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
        "PEFT ignores such keys, before 0.21 without a word: these modules had r and lora_alpha of the whole adapter.",
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
        "S106", "The adapter is of the LoRA family", "Only LoRA, rsLoRA and DoRA are.", _ADAPTER, severity=Severity.NOTE
    ),
    Code(
        "S107",
        "Every tensor has a dtype that is read",
        "Save it in a float dtype to have them looked at.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S108",
        "No pickled weights lie next to the safetensors file",
        "PEFT prefers the safetensors file; remove what is not used.",
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
        "Look into it with --base and --stack: PEFT then names the modules it adapts.",
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
        "Every tensor is whole",
        "Gather the parameters (DeepSpeed ZeRO-3, FSDP) before save_pretrained.",
        _ADAPTER,
    ),
    Code(
        "S203",
        "Every value is a finite number",
        "Take an earlier checkpoint, and look at loss and gradient norm from there on.",
        _ADAPTER,
    ),
    Code(
        "S204",
        "Some update is no longer zero",
        "Count the trainable parameters after the trainer is built: adapters that are frozen by then stay like this.",
        _ADAPTER,
    ),
    Code(
        "S205",
        "Every update is no longer zero",
        "Look whether these modules are frozen, or take no part in the forward pass of the data trained on.",
        _ADAPTER,
        requires=("S204",),
    ),
    Code(
        "S206",
        "The update of every expert is no longer zero",
        "An expert no token is routed to learns nothing; if that is not what happened, look whether they are frozen.",
        _ADAPTER,
        requires=("S204",),
        severity=Severity.NOTE,
    ),
    Code(
        "S207",
        "No tensor that starts at other values is all zero",
        "Take an earlier checkpoint; look at what writes to the weights between training and saving.",
        _ADAPTER,
    ),
    Code(
        "S208",
        "No two factors are identical",
        "Look whether layers share their memory, or were started from the same seed.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "S301",
        "Every name is one that PEFT writes",
        f"{_SAVE_AGAIN}, not of what wraps it, and not through state_dict().",
        _ADAPTER,
    ),
    Code("S302", "Every factor has its other factor", "Take the save again that both factors were in.", _ADAPTER),
    Code(
        "S303",
        "Every update has the rank of the configuration",
        "Weights and configuration are of two different runs, or r was edited: bring those together that belong.",
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
        "Weights and configuration are of two different runs; PEFT drops what its configuration does not name.",
        _ADAPTER,
    ),
    Code(
        "S306",
        "Every module in modules_to_save has tensors",
        "Loading it fails, or starts them at random (PEFT 0.13). Look whether the base has them, and save again.",
        _ADAPTER,
        requires=("S201",),
    ),
    Code(
        "S307",
        "There is a magnitude where use_dora is true, and nowhere else",
        "Weights and configuration are of two different runs, or use_dora was edited.",
        _ADAPTER,
    ),
    Code(
        "S308",
        "Every weight saved whole was asked for",
        "PEFT writes them over the base's own weights when it loads the adapter. If they are meant, name them in "
        "modules_to_save.",
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
        "S401",
        "The adapter loads",
        "Use the PEFT that saved it, or a newer one; options that are not set may be removed from adapter_config.json.",
        _ADAPTER,
    ),
    Code(
        "S402",
        "Every parameter of the adapter has a tensor in the file",
        "PEFT warns of it at most. Load it under the versions it was saved with, or rename its tensors.",
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
        "Every tensor has the shape of its place in the model",
        "This is another base than the one it was trained on, or one whose vocabulary was resized before.",
        _ADAPTER,
    ),
    Code(
        "S405",
        "PEFT knows every option that is switched on",
        "Load it with a PEFT that knows them: what they do is not done.",
        _ADAPTER,
        severity=Severity.NOTE,
    ),
    Code(
        "W701",
        "Trained weights change",
        "Optimizer and gradients are fine, so look at the step itself: the learning rate and its schedule. Train in "
        "float32.",
        _ALL,
        requires=("O301", "G401", "R601"),
    ),
    Code(
        "W702",
        "Frozen weights stay",
        "Something writes to the base model: a merge, a cast in place, or an optimizer that holds what it should not.",
        _CELL_SCRIPT,
        requires=("C104",),
    ),
    Code(
        "W703",
        "Trained weights change to the end",
        "Optimizer and gradients are fine, so look at the step itself, and at the schedule.",
        _CELL,
        requires=("W701", "G405"),
    ),
)

CODES: Mapping[str, Code] = MappingProxyType({code.code: code for code in _TABLE})
"""Every code, by name."""

DEEP_CHECKS = frozenset(code.code for code in _TABLE if code.tier is Tier.DEEP)
"""Codes of the checks that have something to look at only where the deep tier was run."""
