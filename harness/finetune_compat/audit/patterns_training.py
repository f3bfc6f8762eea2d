"""Patterns of what is handed to a trainer, and of what it trains with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from finetune_compat.audit.findings import Finding, Fix, Releases, Status, status_of
from finetune_compat.audit.interpreter import Path
from finetune_compat.audit.values import (
    Const,
    Event,
    External,
    Made,
    Model,
    Table,
    Tokenizer,
    Training,
    Value,
    const,
    is_none,
    texts,
)

SFT = "trl.SFTTrainer"
TRAINER = "transformers.Trainer"
_PREPARED_FLOWS = ("sft-peft-model", "sft-peft-model-unprepared")
_HEADS = re.compile(r"ForSequenceClassification|ForTokenClassification|RewardModel")
_HEAD_NAMES = frozenset({"score", "classifier", "classification_head", "v_head"})
_EMBEDDINGS = frozenset({"embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out"})
_VISION = frozenset({"qkv", "fc1", "fc2", "proj"})
_VISION_MODELS = re.compile(r"VL|Vision2Seq|ImageTextToText|Vision")
_FROZEN = {
    "loaded without is_trainable": ("loaded-frozen", Status.HIT),
    "loaded with an unknown is_trainable": ("loaded-frozen", Status.RUN),
    "prepared after wrapping": ("prepared-after-wrapping", Status.HIT),
    "all gradients are switched off": ("frozen-by-code", Status.HIT),
    "a second adapter is loaded": ("second-adapter", Status.HIT),
    "saved with conversion": ("saved-with-conversion", Status.HIT),
}


def training_findings(path: Path, releases: Releases) -> Iterator[Finding]:
    """All findings of the trainers of a path. A model that nobody trains has none."""
    starts = [one for one in path.trainings if one.started] or path.trainings
    for training in starts:
        for pattern in _PATTERNS:
            yield from pattern(training, releases)


def _is_model(value: Value | None) -> bool:
    return isinstance(value, Model)


# ----------------------------------------------------------------------------------------------------- the handing over


def _wrapped_model(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    if training.kind != SFT or not isinstance(model, Model) or not model.adapters:
        return
    if not is_none(training.given.get("peft_config")) or model.quantized is False:
        return
    inside = releases.listed("trl#3926", *_PREPARED_FLOWS)
    unsure = model.quantized is None or (training.open and "peft_config" not in training.given)
    why = "SFTTrainer prepares this PeftModel a second time, which freezes its adapters"
    if inside is False:
        windows = " or ".join(releases.windows("trl#3926", "trl"))
        why = f"SFTTrainer of {releases.text('trl')} trains this PeftModel; TRL {windows} freezes its adapters"
    if inside is not False and model.quantized is None:
        why += ", if its base is quantized"
    yield Finding("wrapped-model", status_of(inside, unsure), training.place, why, _parts(model, training))


def _wrapped_model_and_config(training: Training, releases: Releases) -> Iterator[Finding]:
    model, config = training.model, training.given.get("peft_config")
    if not isinstance(model, Model) or not model.adapters or is_none(config) or not training.kind.startswith("trl."):
        return
    late = releases.inside({"trl": ">=0.27.0"})
    inside = True if late else releases.listed("adapter-replaced")
    why = (
        f"{releases.text('trl')} refuses a PeftModel together with a peft_config"
        if late
        else ("the trainer replaces the adapters of this PeftModel by fresh ones")
    )
    unsure = training.kind != SFT or not isinstance(config, Made)
    fix = Fix(training.place.node, remove=("peft_config",))
    yield Finding(
        "wrapped-model-and-config", status_of(inside, unsure), training.place, why, _parts(model, training), fix
    )


def _frozen(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    start = training.given.get("at_start")
    event = (
        const(start.items["frozen"]) if isinstance(start, Table) else model.frozen if isinstance(model, Model) else None
    )
    # The trainer attaches adapters after it got the model, and before it calls code of the project.
    later = isinstance(start, Table) and "while training" in start.items
    if not isinstance(model, Model) or not isinstance(event, Event) or not (model.adapters or later):
        return
    pattern, status = _FROZEN[event.what]
    fix = Fix(event.place.node, add={"is_trainable": "True"}) if pattern == "loaded-frozen" else None
    why = {
        "loaded-frozen": "the adapter is loaded frozen, and trained on",
        "prepared-after-wrapping": "prepare_model_for_kbit_training freezes the adapters that the model has already",
        "frozen-by-code": "every gradient is switched off after the adapters are attached",
        "saved-with-conversion": f"saving with conversion freezes the adapter in {releases.text('peft')}",
        "second-adapter": f"loading a second adapter freezes the active one in {releases.text('peft')}",
    }[pattern]
    yield Finding(pattern, status, event.place, why, _parts(model, training), fix)


def _off(training: Training, releases: Releases) -> Iterator[Finding]:
    model, start = training.model, training.given.get("at_start")
    event = const(start.items["off"]) if isinstance(start, Table) else model.off if isinstance(model, Model) else None
    if isinstance(model, Model) and isinstance(event, Event) and model.adapters:
        yield Finding(
            "adapters-off", Status.HIT, event.place, f"{event.what}, and nothing undoes it", (training.place,)
        )


def _inference_mode(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    handed = training.given.get("peft_config")
    config = model.config if isinstance(model, Model) and model.adapters and is_none(handed) else handed
    if not isinstance(config, Made):
        return
    mode = config.get("inference_mode")
    if const(mode) is True:
        fix = Fix(config.place.node, add={"inference_mode": "False"})
        yield Finding(
            "inference-mode", Status.HIT, config.place, "adapters are attached frozen", (training.place,), fix
        )
    elif const(mode) == "saved":
        why = "a configuration read from a saved adapter has inference_mode=True"
        yield Finding("inference-mode", Status.HIT, config.place, why, (training.place,))


# -------------------------------------------------------------------------------------------------------- checkpointing


def _checkpointing(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    if not isinstance(model, Model) or not model.adapters or model.input_grads or training.kind == "loop":
        return
    reentrant = _reentrant(training, model, releases)
    if reentrant is False:
        return
    if training.kind == SFT:
        inside = releases.inside({"trl": "<0.20.0"})
    elif training.kind in (TRAINER, "transformers.Seq2SeqTrainer"):
        inside = releases.inside({"transformers": "<5.0.0"})
    else:
        return
    why = "nothing that goes into the checkpointed layers requires a gradient, so their adapters get none"
    node = _made(training.given.get("args"))
    fix = Fix(node.place.node, add={"gradient_checkpointing_kwargs": '{"use_reentrant": False}'}) if node else None
    yield Finding(
        "checkpointing-cuts-gradients",
        status_of(inside, reentrant is None),
        node.place if node else training.place,
        why,
        _parts(model, training),
        fix,
    )


def _reentrant(training: Training, model: Model, releases: Releases) -> bool | None:
    """Whether training checkpoints with reentry; None if that is not known."""
    args = _made(training.given.get("args"))
    asked = args.get("gradient_checkpointing") if args else None
    on = const(asked) is True or model.checkpointing is not False
    unknown = args is None or (asked is not None and not isinstance(asked, Const)) or (asked is None and args.open)
    if not on:
        default = releases.inside({"trl": ">=0.22.0"}) if training.kind == SFT and asked is None else False
        if not default:
            return None if unknown and asked is not None else False
    options = args.get("gradient_checkpointing_kwargs") if args else None
    if options is None and isinstance(model.checkpointing, Table):
        options = model.checkpointing
    if isinstance(options, Table) and "use_reentrant" in options.items:
        found = const(options.items["use_reentrant"])
        return found if isinstance(found, bool) else None
    if not is_none(options):
        return None
    windows = {"trl": "<0.27.0"} if training.kind.startswith("trl.") else {"transformers": "<5.0.0"}
    return releases.inside(windows)


def _vision(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    if not isinstance(model, Model) or not _VISION_MODELS.search(model.kind):
        return
    config = _made(training.given.get("peft_config")) or _made(model.config if model.adapters else None)
    targets = texts(config.get("target_modules")) if config else None
    if not targets or not targets & _VISION or training.kind != SFT:
        return
    if not _reentrant(training, model, releases):
        return
    inside = releases.listed("vision-adapters-cut-off")
    why = "adapters on the vision encoder get no gradient, because images do not pass the language model's embeddings"
    args = _made(training.given.get("args"))
    fix = Fix(args.place.node, add={"gradient_checkpointing_kwargs": '{"use_reentrant": False}'}) if args else None
    yield Finding("vision-adapters-cut-off", status_of(inside), training.place, why, (), fix)


# --------------------------------------------------------------------------------------------------------------- labels


def _pad_is_end(training: Training, releases: Releases) -> Iterator[Finding]:
    collator = _made(training.given.get("data_collator"))
    tokenizer = training.given.get("processing_class") or training.given.get("tokenizer")
    masks: bool | None = False
    if collator and collator.name == "transformers.DataCollatorForLanguageModeling":
        first = collator.get("tokenizer") or (collator.positional[0] if collator.positional else None)
        tokenizer = first or tokenizer
        mlm = collator.get("mlm") or (collator.positional[1] if len(collator.positional) > 1 else None)
        masks = const(mlm) is False
    elif training.kind == SFT and is_none(training.given.get("data_collator")):
        packed = const(_option(training, "packing")) is True
        masks = False if packed else releases.inside({"trl": "<0.16.1"})
    if (
        masks is False
        or not isinstance(tokenizer, Tokenizer)
        or not tokenizer.pad_is_end
        or tokenizer.pad_place is None
    ):
        return
    why = "end tokens get the label -100 together with padding, so the model never learns to stop"
    yield Finding("pad-is-end", status_of(masks), tokenizer.pad_place, why, (training.place,))


# --------------------------------------------------------------------------------------------------------- accumulation


def _accumulation(training: Training, releases: Releases) -> Iterator[Finding]:
    args = _made(training.given.get("args"))
    steps = const(args.get("gradient_accumulation_steps")) if args else None
    if args is None or not isinstance(steps, int) or steps <= 1 or training.kind == "loop":
        return
    model = training.model
    qwen = isinstance(model, Model) and "Qwen2VL" in model.kind
    twice = releases.listed("accumulation-divided-twice")
    not_divided = releases.listed("accumulation-not-divided") if qwen else False
    fix = Fix(args.place.node, remove=("gradient_accumulation_steps",))
    if twice or not_divided:
        small = f"gradients are too small by a factor of {steps}" if twice else f"gradients are {steps} times too large"
        yield Finding("accumulation", Status.HIT, args.place, f"{small} in {releases.text('transformers')}", (), fix)
    smoothing = const(args.get("label_smoothing_factor"))
    if isinstance(smoothing, int | float) and smoothing > 0 and training.kind in (TRAINER, SFT):
        inside = releases.inside({"transformers": ">=4.46.0,<5.15.0"})
        why = f"the smoothed loss is not divided by the {steps} accumulated batches"
        yield Finding("label-smoothing-accumulation", status_of(inside), args.place, why, (), fix)


# ---------------------------------------------------------------------------------------------------- the configuration


def _no_task_type(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    handed = _made(training.given.get("peft_config")) if training.kind == SFT else None
    config = handed or (_made(model.config) if isinstance(model, Model) and model.adapters else None)
    if config is None or config.open or config.name not in ("peft.LoraConfig", "peft.AdaLoraConfig", "peft.IA3Config"):
        return
    if not is_none(config.get("task_type")) or training.kind not in (TRAINER, SFT):
        return
    if is_none(training.given.get("eval_dataset")) or not is_none(_option(training, "label_names")):
        return
    inside = releases.inside({"transformers": "<4.55.0"})
    why = "Trainer finds no labels in the PeftModel's forward, so an evaluation has no eval_loss"
    fix = Fix(config.place.node, add={"task_type": '"CAUSAL_LM"'})
    yield Finding("no-task-type", status_of(inside), config.place, why, (training.place,), fix)


def _head(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    if not isinstance(model, Model) or not _HEADS.search(model.kind):
        return
    config = _made(training.given.get("peft_config")) or _made(model.config if model.adapters else None)
    if config is None or config.name != "peft.LoraConfig" or config.open:
        return
    task = config.get("task_type")
    name = (
        const(task) if isinstance(task, Const) else task.name.rpartition(".")[2] if isinstance(task, External) else None
    )
    if task is not None and not isinstance(task, Const | External):
        return
    saved = texts(config.get("modules_to_save"))
    if name in ("SEQ_CLS", "TOKEN_CLS") or (saved is None and not is_none(config.get("modules_to_save"))):
        return
    if (saved or set()) & _HEAD_NAMES:
        return
    kind = "TOKEN_CLS" if "Token" in model.kind else "SEQ_CLS"
    fix = Fix(config.place.node, add={"task_type": f'"{kind}"'})
    why = "the fresh head stays random: PEFT freezes it, and does not save it"
    yield Finding("head-not-trained", Status.HIT, config.place, why, (training.place,), fix)


def _new_tokens(training: Training, releases: Releases) -> Iterator[Finding]:
    model = training.model
    if not isinstance(model, Model) or model.resized is None:
        return
    config = _made(training.given.get("peft_config")) or _made(model.config if model.adapters else None)
    if config is None or config.name != "peft.LoraConfig" or config.open:
        return
    tokenizer = training.given.get("processing_class") or training.given.get("tokenizer")
    if isinstance(tokenizer, Tokenizer) and tokenizer.added is None:
        return  # only a padding token, which nothing learns
    for name in ("modules_to_save", "target_modules"):
        named = texts(config.get(name))
        if named is None and not is_none(config.get(name)):
            return
        if (named or set()) & _EMBEDDINGS:
            return
    if not is_none(config.get("trainable_token_indices")):
        return
    fix = Fix(config.place.node, add={"modules_to_save": '["embed_tokens", "lm_head"]'})
    why = "the rows of the new tokens are random, and LoRA trains and saves neither the embedding nor the head"
    unsure = not isinstance(tokenizer, Tokenizer)
    yield Finding("new-tokens-untrained", status_of(True, unsure), model.resized, why, (config.place,), fix)


def _attention(rule: str) -> Callable[[Training, Releases], Iterator[Finding]]:
    def attention(training: Training, releases: Releases) -> Iterator[Finding]:
        model = training.model
        if not isinstance(model, Model) or model.attention is None:
            return
        asked = const(model.attention)
        if isinstance(asked, str) and asked != rule:
            fix = Fix(model.place.node, add={"attn_implementation": f'"{rule}"'})
            why = f"the model for training is loaded with {asked}; the rule of this project is {rule}"
            yield Finding("attention", Status.HIT, model.place, why, (), fix)

    return attention


def attention_findings(path: Path, releases: Releases, rule: str) -> Iterator[Finding]:
    """Models for training that are loaded with another attention than `rule`."""
    for training in path.trainings:
        yield from _attention(rule)(training, releases)


# ------------------------------------------------------------------------------------------------------- versions alone


def _versions(training: Training, releases: Releases) -> Iterator[Finding]:
    if training.kind == "trl.DPOTrainer":
        inside = releases.inside({"trl": ">=0.10.0,<0.12.0", "transformers": ">=4.46.0"})
        if inside:
            why = f"Trainer calls DPOTrainer.get_batch_samples with other arguments in {releases.text('transformers')}"
            yield Finding("batch-samples", Status.HIT, training.place, why)
    needs = training.kind in (SFT, "trl.DPOTrainer") and releases.listed("sft-needs-triton")
    if needs and "triton" not in releases.installed:
        why = f"{releases.text('trl')} calls Triton kernels at every forward"
        yield Finding("needs-triton", Status.HIT if releases.complete else Status.RUN, training.place, why)
    if training.kind == SFT and releases.listed("trl#3589"):
        options = _option(training, "dataset_kwargs")
        skips = isinstance(options, Table) and const(options.items.get("skip_prepare_dataset")) is True
        if skips and const(_option(training, "remove_unused_columns")) is not False:
            args = _made(training.given.get("args"))
            fix = Fix(args.place.node, add={"remove_unused_columns": "False"}) if args else None
            why = "SFTTrainer removes the column `labels` of rows that are tokenized already"
            yield Finding("labels-dropped", Status.RUN, training.place, why, (), fix)


# -------------------------------------------------------------------------------------------------------------- helpers


def _made(value: Value | None) -> Made | None:
    return value if isinstance(value, Made) else None


def _option(training: Training, name: str) -> Value | None:
    """An option of the arguments, or of the trainer itself as before TRL 0.13."""
    args = _made(training.given.get("args"))
    return (args.get(name) if args else None) or training.given.get(name)


def _parts(model: Model, training: Training) -> tuple:  # type: ignore[type-arg]
    places = [model.place, model.wrapped_at, *(event.place for event in model.history), training.place]
    return tuple({(place.source.shown, place.line): place for place in places if place is not None}.values())


_PATTERNS = (
    _wrapped_model,
    _wrapped_model_and_config,
    _frozen,
    _off,
    _inference_mode,
    _checkpointing,
    _vision,
    _pad_is_end,
    _accumulation,
    _no_task_type,
    _head,
    _new_tokens,
    _versions,
)
