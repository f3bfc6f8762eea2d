"""The checks of the model at each stage: trainable and total counts, dtypes, and adapters saved and reloaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from finetune_compat.checks.case import Case, freeze_line
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.catalog import MAY_DROP, Expect, Extra, Head
from finetune_compat.contract.records import Absence, Area, Census, Precision, Stage

REPLY_TOLERANCE = 0.05
"""A reload may change logits by this share of the adapter's largest effect on a logit. Measured: adapters saved in
bfloat16 and reloaded in float32 change logits by up to 1.6 % of it. An adapter scaled by a half changes them by half.
"""

ROUNDED_REPLY = 0.05
"""Largest difference of a logit between equal weights in bfloat16 and in float32: Transformers before 5 loads a model
in float32, whatever it was saved in. Measured with tiny models: up to 0.011. Ten steps change logits by about 2.
"""

ADAPTER_DTYPES = (("float32",), ("bfloat16",))
"""Allowed dtypes of adapters. float16 loses the small updates of training. TRL 0.26 and later stores the adapters of
quantized models in bfloat16. On a model in float32 adapters have float32.
"""


def options_accepted(case: Case) -> str | None:
    """The installed version accepts every option that the flow sets, under one of its names."""
    lost = [option for option in case.seen.options_dropped if option not in MAY_DROP]
    return f"this version does not accept {', '.join(lost)}: the cell differs from its id" if lost else None


def attention_as_asked(case: Case) -> str | None:
    """The model uses the attention implementation it was loaded with."""
    attention = case.seen.attention
    if attention is None or attention.used is None:
        raise NotApplicable("the model was not loaded, or does not report its attention")
    if attention.used == attention.asked:
        return None
    return f"asked for {attention.asked} attention, the model uses {attention.used}"


def weights_have_the_dtype_asked_for(case: Case) -> str | None:
    """At load, unquantized weights have the requested dtype, and quantized weights have bitsandbytes' storage type.
    Later stages may add only float32, to which preparation casts.
    """
    census = case.census(Stage.LOAD)
    if census is None:
        raise NotApplicable("no census at load")
    asked = case.sizes.dtypes
    if set(census.dtypes) != set(asked):
        return f"weights are {_elements(census.dtypes)} at load, asked for {' and '.join(sorted(asked))}"
    allowed = {*asked, "float32"}
    for later in case.seen.stages:
        if later.dtypes.keys() <= allowed:
            continue  # then the base model has no other dtype either
        strange = {dtype: n for dtype, n in _base_dtypes(later).items() if dtype not in allowed}
        if strange:
            return f"the base model has {_elements(strange)} at {later.name}, asked for {' and '.join(sorted(asked))}"
    return None


def _base_dtypes(census: Census) -> dict[str, int]:
    """Elements by dtype outside the adapters; empty if the adapters have several dtypes and cannot be subtracted."""
    adapters = census.by_area.get(Area.ADAPTER)
    if adapters is None or not adapters.total:
        return dict(census.dtypes)
    if len(census.adapter_dtypes) != 1:
        return {}
    [own] = census.adapter_dtypes
    left = {dtype: n - adapters.total * (dtype == own) for dtype, n in census.dtypes.items()}
    return {dtype: n for dtype, n in left.items() if n > 0}


def _elements(dtypes: Mapping[str, int]) -> str:
    return " and ".join(f"{dtype} ({count:,} elements)" for dtype, count in sorted(dtypes.items()))


def census_check(stage: Stage) -> Callable[[Case], str | None]:
    def run(case: Case) -> str | None:
        expect = case.flow.expects.get(stage)
        if expect is None:
            raise NotApplicable("the flow has no expectation at this stage")
        if case.refused and stage not in (Stage.LOAD, Stage.PREPARE):
            raise NotApplicable("the trainer refused the flow")
        census = case.census(stage)
        if census is None:
            return _without_census(case, stage)
        allowed = case.expected(expect)
        if expect is Expect.ADAPTER and _others_train(census) > 0:
            return f"{_others_train(census):,} parameters outside the adapters are trainable at {stage}"
        if census.trainable in allowed:
            return None
        wanted = " or ".join(f"{count:,}" for count in sorted(allowed))
        blame = "".join(f"; frozen by {freeze_line(freeze)}" for freeze in case.seen.freezes)
        return f"{census.trainable:,} trainable at {stage}, expected {wanted} ({expect}){blame}"

    return run


def _others_train(census: Census) -> int:
    """Trainable elements outside the adapters."""
    adapters = census.by_area.get(Area.ADAPTER)
    return census.trainable - (adapters.trainable if adapters else 0)


def _without_census(case: Case, stage: Stage) -> str:
    """The message for a missing census.

    Raises:
        NotApplicable: an error ended the flow before the stage, or the library may skip the step in this flow.
    """
    reason = case.absence(stage)
    optional = stage in (Stage.PREPARE, Stage.PEFT) and reason is Absence.NOT_CALLED
    own = case.flow.handed_over and (stage is Stage.PEFT or case.seen.variant.precision.quantized)
    if (optional and not own) or (reason is Absence.NOT_REACHED and case.seen.error is not None):
        raise NotApplicable(f"no census at {stage}: {reason}")
    return f"no census at {stage}, and no good reason for its absence ({reason or 'none recorded'})"


def totals_follow_from_the_config(case: Case) -> str | None:
    """Stored and logical totals at the trainer are exactly those of the base plus the adapters."""
    census = case.census(Stage.TRAINER)
    if census is None:
        raise NotApplicable("no census at trainer")
    aside = _adapters_aside(census)
    logical, stored = case.sizes.logical + case.adapter + aside, case.sizes.stored + case.adapter + aside
    if (census.total_logical, census.total) == (logical, stored):
        return None
    return (
        f"{census.total_logical:,} logical and {census.total:,} stored parameters, expected {logical:,} and {stored:,}"
    )


def _adapters_aside(census: Census) -> int:
    """Parameters of adapters that the model does not compute with, such as the reference adapter of DPOTrainer."""
    every = census.by_area.get(Area.ADAPTER)
    return every.total - census.active.total if every and census.active else 0


def adapters_sit_where_the_targets_are(case: Case) -> str | None:
    """Each part of the model has exactly the adapter parameters that its matched layers require."""
    census = case.census(Stage.TRAINER)
    if census is None or census.adapters_on is None or case.seen.lora is None:
        raise NotApplicable("no adapters, or none counted at trainer")
    seen = {area: count.total for area, count in census.adapters_on.items() if count.total}
    wanted = dict(case.sizes.adapters_on)
    return None if seen == wanted else f"adapters sit on {_areas(seen)}, expected {_areas(wanted)}"


def _areas(counts_by_area: Mapping[Area, int]) -> str:
    return ", ".join(f"{area} {count:,}" for area, count in sorted(counts_by_area.items())) or "nothing"


def adapters_keep_one_dtype(case: Case) -> str | None:
    """Adapters have one dtype, float32 or bfloat16, before and after training. The reload may also have float32. The
    copy of a module, and a magnitude of DoRA, may have the dtype of the model instead.
    """
    found = {stage: _adapter_dtypes(case, stage) for stage in (Stage.TRAINER, Stage.AFTER_TRAINING)}
    seen = {stage: dtypes for stage, dtypes in found.items() if dtypes}
    if not seen:
        raise NotApplicable("no adapters at trainer")
    reloaded = _adapter_dtypes(case, Stage.RELOAD)
    if reloaded and reloaded not in {("float32",), *seen.values()}:
        seen[Stage.RELOAD] = reloaded
    allowed = ADAPTER_DTYPES[:1] if case.seen.variant.precision is Precision.FULL else ADAPTER_DTYPES
    # Real weights of full precision are loaded in bfloat16.
    allowed = ADAPTER_DTYPES if case.seen.model is None else allowed
    if len(set(seen.values())) == 1 and next(iter(seen.values())) in allowed:
        return None
    return "adapters are " + ", ".join(f"{' and '.join(dtypes)} at {stage}" for stage, dtypes in seen.items())


def _adapter_dtypes(case: Case, stage: Stage) -> tuple[str, ...]:
    """The dtypes of the adapters at `stage`. Copies of modules and the magnitudes of DoRA may have the dtype of the
    unquantized weights, which is left out beside another one.
    """
    census = case.census(stage)
    dtypes = census.adapter_dtypes if census else ()
    mixed = case.flow.head is Head.SCORE or case.flow.extra is not Extra.NOTHING
    if not mixed or len(dtypes) == 1:
        return dtypes
    return tuple(dtype for dtype in dtypes if dtype != case.sizes.dtypes[0])


def adapter_kept(case: Case) -> str | None:
    """The constructor of the trainer does not change the values of an adapter that is passed to it."""
    if not case.flow.handed_over:
        raise NotApplicable("the trainer makes the adapter itself")
    given, kept = case.census(Stage.PEFT), case.census(Stage.TRAINER)
    if given is None or kept is None:
        raise NotApplicable("no census at peft or trainer")
    if given.subject_sha256 is None:
        return "no digest of the adapter passed to the trainer"
    if given.subject_sha256 == kept.subject_sha256:
        return None
    return "the trainer replaced the adapter: its values differ between peft and trainer"


def reloaded_is_what_was_trained(case: Case) -> str | None:
    """The saved and reloaded values are those at the end of training."""
    trained, reloaded = case.census(Stage.AFTER_TRAINING), case.census(Stage.RELOAD)
    if trained is None or reloaded is None:
        raise NotApplicable("no census after training or at reload")
    if trained.subject_sha256 is None:
        return "no digest of the trained values"
    if trained.subject_sha256 == reloaded.subject_sha256:
        return None
    return "the reloaded values differ from those at the end of training"


def reload_answers_alike(case: Case) -> str | None:
    """The reloaded model gives the same logits as the trained model, within `REPLY_TOLERANCE`."""
    reply = case.seen.reply
    if reply is None or reply.reloaded is None:
        raise NotApplicable("no logits of the reloaded model")
    if case.seen.model is None and _dtypes_of(case, Stage.AFTER_TRAINING) != _dtypes_of(case, Stage.RELOAD):
        # Real weights are loaded in bfloat16, and preparation casts a part to float32: rounding alone changes logits.
        raise NotApplicable("the dtypes in training and after the reload differ")
    allowed = REPLY_TOLERANCE * reply.without_adapter if reply.without_adapter else _rounding(case)
    if reply.reloaded <= allowed:
        return None
    return f"logits of the reloaded model are off by up to {reply.reloaded:.4g}, allowed {allowed:.4g}"


def _rounding(case: Case) -> float:
    """How far logits of a fully trained and reloaded model may differ: only if it was trained in bfloat16 and is
    reloaded in another dtype.
    """
    same = _dtypes_of(case, Stage.AFTER_TRAINING) == _dtypes_of(case, Stage.RELOAD)
    return 0.0 if same or not case.seen.variant.precision.bf16 else ROUNDED_REPLY


def _dtypes_of(case: Case, stage: Stage) -> Mapping[str, int]:
    census = case.census(stage)
    return census.dtypes if census else {}


def adapter_has_effect(case: Case) -> str | None:
    """After training, switching the adapters off changes the logits."""
    reply = case.seen.reply
    if reply is None or reply.without_adapter is None:
        raise NotApplicable("no adapters, or no logits of the trained model")
    if not math.isfinite(reply.without_adapter):
        return "the logits of the trained model are not finite"
    return None if reply.without_adapter > 0 else "the same logits with the adapters on and off"
