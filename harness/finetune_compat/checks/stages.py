"""What the model is at each stage: trainable and total counts, dtypes, adapters kept, saved and loaded again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from finetune_compat.checks.case import Case, freeze_line
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.catalog import MAY_DROP, Expect
from finetune_compat.contract.records import Absence, Area, Census, Stage

REPLY_TOLERANCE = 0.05
"""Share of an adapter's whole effect on a logit by which a reload may differ from what was trained. Adapters kept in
bfloat16 and reloaded in float32 moved logits by up to 1.6 % of it (measured); an adapter scaled by a half moves half.
"""

ADAPTER_DTYPES = (("float32",), ("bfloat16",))
"""What adapters may be kept in. float16 loses the small steps of training; TRL from 0.26 on keeps those of quantized
models in bfloat16.
"""


def options_accepted(case: Case) -> str | None:
    """Every option the flow sets is known to the installed version, under one name or another."""
    lost = [option for option in case.seen.options_dropped if option not in MAY_DROP]
    return f"no name of this version accepts {', '.join(lost)}: the cell is not the one it is called" if lost else None


def attention_as_asked(case: Case) -> str | None:
    """The model uses the attention implementation it was loaded with."""
    attention = case.seen.attention
    if attention is None or attention.used is None:
        raise NotApplicable("the model was not loaded, or does not say")
    if attention.used == attention.asked:
        return None
    return f"asked for {attention.asked} attention, the model uses {attention.used}"


def weights_have_the_dtype_asked_for(case: Case) -> str | None:
    """At load, what is not quantized has the dtype asked for, and what is has bitsandbytes' storage type. At no later
    stage is there another one but float32, which preparation casts to.
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
            continue  # nor has the base model, which is part of it
        strange = {dtype: n for dtype, n in _base_dtypes(later).items() if dtype not in allowed}
        if strange:
            return f"of the base model {_elements(strange)} at {later.name}, asked for {' and '.join(sorted(asked))}"
    return None


def _base_dtypes(census: Census) -> dict[str, int]:
    """Elements by dtype outside the adapters; empty where adapters of several dtypes cannot be told from the rest."""
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
            raise NotApplicable("the flow promises nothing here")
        if case.refused and stage not in (Stage.LOAD, Stage.PREPARE):
            raise NotApplicable("the trainer refused")
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
    """A census may be absent behind an error, and where a step is the library's or the precision's choice to take."""
    reason = case.absence(stage)
    optional = stage in (Stage.PREPARE, Stage.PEFT) and reason is Absence.NOT_CALLED
    own = case.flow.handed_over and (stage is Stage.PEFT or case.seen.variant.precision.quantized)
    if (optional and not own) or (reason is Absence.NOT_REACHED and case.seen.error is not None):
        raise NotApplicable(f"no census at {stage}: {reason}")
    return f"no census at {stage}, and no good reason for its absence ({reason or 'none recorded'})"


def totals_follow_from_the_config(case: Case) -> str | None:
    """Stored and logical totals at the trainer are those of the base and of the adapters, and nothing else."""
    census = case.census(Stage.TRAINER)
    if census is None:
        raise NotApplicable("no census at trainer")
    logical, stored = case.sizes.logical + case.adapter, case.sizes.stored + case.adapter
    if (census.total_logical, census.total) == (logical, stored):
        return None
    return (
        f"{census.total_logical:,} logical and {census.total:,} stored parameters, expected {logical:,} and {stored:,}"
    )


def adapters_sit_where_the_targets_are(case: Case) -> str | None:
    """In each part of the model there are as many adapter parameters as its matched layers call for, and no others."""
    census = case.census(Stage.TRAINER)
    if census is None or census.adapters_on is None or case.seen.lora is None:
        raise NotApplicable("no adapters, or none counted at trainer")
    seen = {area: count.total for area, count in census.adapters_on.items() if count.total}
    wanted = dict(case.sizes.adapters_on)
    return None if seen == wanted else f"adapters sit on {_areas(seen)}, expected {_areas(wanted)}"


def _areas(counts_by_area: Mapping[Area, int]) -> str:
    return ", ".join(f"{area} {count:,}" for area, count in sorted(counts_by_area.items())) or "nothing"


def adapters_keep_one_dtype(case: Case) -> str | None:
    """Adapters are float32 or bfloat16, all alike, and the same before and after training; float32 may be reloaded."""
    found = {stage: case.census(stage) for stage in (Stage.TRAINER, Stage.AFTER_TRAINING)}
    seen = {stage: census.adapter_dtypes for stage, census in found.items() if census and census.adapter_dtypes}
    if not seen:
        raise NotApplicable("no adapters at trainer")
    reloaded = case.census(Stage.RELOAD)
    if reloaded and reloaded.adapter_dtypes and reloaded.adapter_dtypes not in {("float32",), *seen.values()}:
        seen[Stage.RELOAD] = reloaded.adapter_dtypes
    if len(set(seen.values())) == 1 and next(iter(seen.values())) in ADAPTER_DTYPES:
        return None
    return "adapters are " + ", ".join(f"{' and '.join(dtypes)} at {stage}" for stage, dtypes in seen.items())


def adapter_kept(case: Case) -> str | None:
    """An adapter handed to the trainer comes out of its constructor with the values it had."""
    if not case.flow.handed_over:
        raise NotApplicable("the trainer makes the adapter itself")
    given, kept = case.census(Stage.PEFT), case.census(Stage.TRAINER)
    if given is None or kept is None:
        raise NotApplicable("no census at peft or trainer")
    if given.subject_sha256 is None:
        return "no digest of the adapter handed over"
    if given.subject_sha256 == kept.subject_sha256:
        return None
    return "the adapter handed over was replaced: its values differ between peft and trainer"


def reloaded_is_what_was_trained(case: Case) -> str | None:
    """What is saved and loaded again has the values that training ended with."""
    trained, reloaded = case.census(Stage.AFTER_TRAINING), case.census(Stage.RELOAD)
    if trained is None or reloaded is None:
        raise NotApplicable("no census after training or at reload")
    if trained.subject_sha256 is None:
        return "no digest of what was trained"
    if trained.subject_sha256 == reloaded.subject_sha256:
        return None
    return "the values loaded again are not those training ended with"


def reload_answers_alike(case: Case) -> str | None:
    """What is saved and loaded again gives the logits the trained model gave."""
    reply = case.seen.reply
    if reply is None or reply.reloaded is None:
        raise NotApplicable("the reloaded model was not asked")
    if case.seen.model is None and _dtypes_of(case, Stage.AFTER_TRAINING) != _dtypes_of(case, Stage.RELOAD):
        # Real weights are loaded in bfloat16, of which preparation makes float32 in part: rounding alone moves logits.
        raise NotApplicable("it was trained in other dtypes than it was loaded again in")
    # A model that was trained whole is saved and loaded in one dtype.
    allowed = REPLY_TOLERANCE * reply.without_adapter if reply.without_adapter else 0.0
    if reply.reloaded <= allowed:
        return None
    return f"logits of the reloaded model are off by up to {reply.reloaded:.4g}, allowed {allowed:.4g}"


def _dtypes_of(case: Case, stage: Stage) -> Mapping[str, int]:
    census = case.census(stage)
    return census.dtypes if census else {}


def adapter_has_effect(case: Case) -> str | None:
    """After training, switching the adapters off changes what the model says."""
    reply = case.seen.reply
    if reply is None or reply.without_adapter is None:
        raise NotApplicable("no adapters, or the trained model was not asked")
    if not math.isfinite(reply.without_adapter):
        return "the trained model answers with logits that are not finite"
    return None if reply.without_adapter > 0 else "the same logits with the adapters on and off"
