"""What to think of a saved adapter: every check with its severity and its advice, and what they find. Pure.

Unhealthy is what makes an adapter something other than its configuration and its training promise: values that do
nothing or are no numbers, tensors that are not there or that a load drops or refuses. A note is worth knowing and may
well be meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from finetune_compat.inspect import checks
from finetune_compat.inspect.checks import Case, Seen


class Severity(StrEnum):
    """How bad a finding is."""

    UNHEALTHY = "unhealthy"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Check:
    """One question asked of a saved adapter. Its claim is the docstring of `run`."""

    code: str
    severity: Severity
    run: Callable[[Case], Seen | None]
    advice: str
    unless: tuple[str, ...] = ()
    """Checks whose finding would explain this one's."""
    flows: tuple[str, ...] = ()
    """Flows of the catalog that lead there, or that show what follows."""
    issues: tuple[str, ...] = ()
    """Known issues of the ledger behind it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found."""

    code: str
    severity: Severity
    sentence: str
    advice: str
    where: tuple[str, ...]
    flows: tuple[str, ...]
    issues: tuple[str, ...]


def findings_of(case: Case) -> tuple[Finding, ...]:
    """Everything found that nothing else found explains: what is unhealthy first, in the order of `CHECKS`."""
    seen = {check.code: check.run(case) for check in CHECKS}
    shown = [check for check in CHECKS if not any(seen[code] for code in check.unless)]
    found = [_finding(check, what) for check in shown if (what := seen[check.code])]
    return tuple(sorted(found, key=lambda finding: finding.severity is Severity.NOTE))


def _finding(check: Check, seen: Seen) -> Finding:
    return Finding(check.code, check.severity, seen.sentence, check.advice, seen.where, check.flows, check.issues)


_SAVE_AGAIN = "Save it again with save_pretrained of the PEFT model itself"

CHECKS: tuple[Check, ...] = (
    Check(
        "S101",
        Severity.NOTE,
        checks.not_frozen_when_reloaded,
        "Train on with PeftModel.from_pretrained(..., is_trainable=True), which does not ask the file: editing it "
        "there changes nothing. Set inference_mode=False in a configuration that is used again.",
        flows=("sft-adapter-reload-frozen", "sft-adapter-reload-edited", "sft-inference-mode-config"),
        issues=("inference-mode", "trl#6700"),
    ),
    Check(
        "S102",
        Severity.UNHEALTHY,
        checks.scaled,
        "Set lora_alpha (or its alpha_pattern) to what training used.",
    ),
    Check(
        "S103",
        Severity.UNHEALTHY,
        checks.patterns_match,
        "PEFT ignores such keys, before 0.21 without a word: these modules had r and lora_alpha of the whole adapter.",
        unless=("S201",),
    ),
    Check(
        "S104",
        Severity.NOTE,
        checks.heads_told_apart,
        "Load it with PEFT 0.15 or later.",
    ),
    Check(
        "S105",
        Severity.NOTE,
        checks.ends_kept_together,
        "Train with ensure_weight_tying=True (PEFT 0.18 and later), or leave both as they are.",
    ),
    Check("S106", Severity.NOTE, checks.judged_in_depth, "Only LoRA, rsLoRA and DoRA are."),
    Check("S107", Severity.NOTE, checks.every_value_read, "Save it in a float dtype to have them looked at."),
    Check(
        "S108", Severity.NOTE, checks.no_pickle_beside, "PEFT prefers the safetensors file; remove what is not used."
    ),
    Check(
        "S109",
        Severity.NOTE,
        checks.training_shows,
        "Compare with a save from before training: `tensors` of --json has a digest of each.",
    ),
    Check(
        "S110",
        Severity.NOTE,
        checks.exclusion_shows,
        "Look into it with --base and --stack: PEFT then names the modules it adapts.",
        unless=("S201",),
    ),
    Check(
        "S111",
        Severity.NOTE,
        checks.trainable_when_reloaded,
        "That is right for generating. To train on, wrap the base with get_peft_model and this configuration with "
        "inference_mode=False, then load the tensors with set_peft_model_state_dict. Where an encoder made the "
        "tensors (P-tuning, prefix_projection), it was not saved and cannot be trained on.",
    ),
    Check("S201", Severity.UNHEALTHY, checks.has_tensors, f"{_SAVE_AGAIN}, after the adapters were attached."),
    Check(
        "S202",
        Severity.UNHEALTHY,
        checks.gathered,
        "Gather the parameters (DeepSpeed ZeRO-3, FSDP) before save_pretrained.",
    ),
    Check(
        "S203",
        Severity.UNHEALTHY,
        checks.finite,
        "Take an earlier checkpoint, and look at loss and gradient norm from there on.",
    ),
    Check(
        "S204",
        Severity.UNHEALTHY,
        checks.ever_trained,
        "Count the trainable parameters after the trainer is built: adapters that are frozen by then stay like this.",
        flows=("sft-peft-model", "sft-inference-mode-config"),
        issues=("trl#3926", "inference-mode"),
    ),
    Check(
        "S205",
        Severity.UNHEALTHY,
        checks.trained_everywhere,
        "Look whether these modules are frozen, or take no part in the forward pass of the data trained on.",
        unless=("S204",),
    ),
    Check(
        "S206",
        Severity.NOTE,
        checks.trained_in_every_expert,
        "An expert no token is routed to learns nothing; if that is not what happened, look whether they are frozen.",
        unless=("S204",),
    ),
    Check(
        "S207",
        Severity.UNHEALTHY,
        checks.nothing_wiped,
        "Take an earlier checkpoint; look at what writes to the weights between training and saving.",
    ),
    Check(
        "S208",
        Severity.NOTE,
        checks.no_copies,
        "Look whether layers share their memory, or were started from the same seed.",
    ),
    Check(
        "S301",
        Severity.UNHEALTHY,
        checks.named_as_peft_does,
        f"{_SAVE_AGAIN}, not of what wraps it, and not through state_dict().",
    ),
    Check("S302", Severity.UNHEALTHY, checks.in_pairs, "Take the save again that both factors were in."),
    Check(
        "S303",
        Severity.UNHEALTHY,
        checks.ranks_as_asked,
        "Weights and configuration are of two different runs, or r was edited: bring those together that belong.",
        unless=("S202",),
    ),
    Check(
        "S304",
        Severity.UNHEALTHY,
        checks.targets_have_tensors,
        "Compare with the names of the base's modules: it may fuse these (qkv_proj), or hold experts as parameters "
        "(target_parameters).",
        unless=("S201",),
    ),
    Check(
        "S305",
        Severity.UNHEALTHY,
        checks.updates_are_asked_for,
        "Weights and configuration are of two different runs; PEFT drops what its configuration does not name.",
    ),
    Check(
        "S306",
        Severity.UNHEALTHY,
        checks.saved_whole_is_there,
        "Loading it fails, or starts them at random (PEFT 0.13). Look whether the base has them, and save again.",
        unless=("S201",),
    ),
    Check(
        "S307",
        Severity.UNHEALTHY,
        checks.magnitudes_as_asked,
        "Weights and configuration are of two different runs, or use_dora was edited.",
    ),
    Check(
        "S308",
        Severity.NOTE,
        checks.whole_is_asked_for,
        "PEFT writes them over the base's own weights when it loads the adapter. If they are meant, name them in "
        "modules_to_save.",
    ),
    Check(
        "S309",
        Severity.NOTE,
        checks.biases_saved,
        "If the base has biases, train with PEFT 0.21 or later, or with bias='all'.",
        unless=("S201",),
    ),
    Check(
        "S401",
        Severity.UNHEALTHY,
        checks.loads_at_all,
        "Use the PEFT that saved it, or a newer one; options that are not set may be removed from adapter_config.json.",
    ),
    Check(
        "S402",
        Severity.UNHEALTHY,
        checks.nothing_missing,
        "PEFT warns of it at most. Load it under the versions it was saved with, or rename its tensors.",
    ),
    Check(
        "S403",
        Severity.UNHEALTHY,
        checks.nothing_dropped,
        "Compare these names with the model's: Transformers moved modules of vision-language models in 4.52.",
    ),
    Check(
        "S404",
        Severity.UNHEALTHY,
        checks.shapes_fit,
        "This is another base than the one it was trained on, or one whose vocabulary was resized before.",
    ),
    Check(
        "S405",
        Severity.NOTE,
        checks.options_known,
        "Load it with a PEFT that knows them: what they do is not done.",
    ),
)
"""All checks, by code."""
