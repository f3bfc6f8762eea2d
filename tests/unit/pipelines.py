"""Records of watched scripts, made from hand-made observations."""

from __future__ import annotations

import dataclasses

import builders
from finetune_compat.contract.records import (
    ActiveAdapters,
    Actor,
    Area,
    AreaCount,
    Observation,
    Precision,
    Stage,
    Variant,
)
from finetune_compat.contract.script import Pipeline, Run

NF4 = Variant("qwen2", Precision.NF4, True)
RATE = 1e-2


def run(seen: Observation | None = None, **changes: object) -> Run:
    """A trainer that was given a PeftModel, seen from outside: no closed form and no known labels."""
    seen = builders.healthy("sft-peft-model", NF4) if seen is None else seen
    seen = dataclasses.replace(seen, model=None, lora=None, reply=None, memory=None)
    wrapped = seen.census(Stage.PEFT)
    handed = dataclasses.replace(wrapped) if wrapped and wrapped.by is Actor.FLOW else None
    made = Run(
        seen=seen, trainer="SFTTrainer", asks_for_adapters=True, rows_evaluated=16, full_rate=RATE, handed=handed
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def with_adapters(made: Run, **stages: tuple[tuple[str, ...], int, int, str]) -> Run:
    """The same run with these active adapters at `peft`, `handed` or `trainer`: names, trainable, of them, digest.

    Another adapter, frozen, of 1,000 parameters is on the model at each of these.
    """
    for stage, (names, trainable, total, digest) in stages.items():
        changes: dict[str, object] = {
            "active": ActiveAdapters(names, trainable, total),
            "by_area": {Area.ADAPTER: AreaCount(trainable, total + 1000)},
            "trainable": trainable,
            "subject_sha256": digest,
        }
        if stage == "handed":
            assert made.handed is not None
            made = dataclasses.replace(made, handed=dataclasses.replace(made.handed, **changes))  # type: ignore[arg-type]
        else:
            made = dataclasses.replace(made, seen=builders.at_stage(made.seen, Stage(stage), **changes))
    return made


def training(made: Run, **changes: object) -> Run:
    """The same run with other facts about training."""
    assert made.seen.training is not None
    trained = dataclasses.replace(made.seen.training, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, training=trained))


def frozen() -> Run:
    """The run as TRL 0.22 leaves it."""
    return run(builders.frozen(builders.healthy("sft-peft-model", NF4, versions=builders.on_trl("0.22.2"))))


def failed() -> Run:
    """A run whose training ended in an error."""
    seen = builders.healthy("sft-peft-model", NF4)
    return run(builders.failed(seen, "RuntimeError", builders.NO_GRAD, Stage.TRAINING))


def pipeline(*runs: Run, **changes: object) -> Pipeline:
    """A script with these trainers."""
    seen = builders.healthy("sft-peft-model", NF4)
    made = Pipeline(
        script="train", arguments=("tiny",), steps=10, stack=seen.stack, device=seen.device, runs=runs, status=0
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def without_training(made: Run) -> Run:
    """A script that ended before training."""
    stages = tuple(taken for taken in made.seen.stages if taken.name is not Stage.AFTER_TRAINING)
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, training=None, labels=None, stages=stages))
