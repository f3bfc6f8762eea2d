"""Take a census: ask a stack, add what the measured matrix lists of its trainer, and hold it against the request."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter

from finetune_compat.census.families import Subject, families
from finetune_compat.census.lora import Lora
from finetune_compat.census.verdicts import TargetFinding, findings
from finetune_compat.checks.ledger import Kind, Ledger
from finetune_compat.contract.catalog import QWEN2
from finetune_compat.contract.census import (
    CannotBuild,
    Inability,
    LoadDtype,
    Quantization,
    StageTable,
    StageTableRequest,
)
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import DeviceKind, Precision, Stage, Variant
from finetune_compat.stacks.ask import StackPython, ask

CELL_MODULE = "finetune_compat.cell.stage_table"

_TABLE = TypeAdapter(StageTable)
_INABILITY = TypeAdapter(Inability)

FREEZES = "C104"
"""The check that fails where nothing is trainable once the trainer is built."""

ENDS = "F001"
"""The check that fails where a flow ends in an error."""


class Way(StrEnum):
    """How adapters reach SFTTrainer. Named after the flows of the matrix that measure it."""

    BASE = "sft-peft-config"
    """The base model and a peft_config: the trainer prepares and attaches."""
    WRAPPED = "sft-peft-model"
    """A PeftModel, prepared and wrapped by the user, without a peft_config."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """Parameters trainable once SFTTrainer is built: those of the stage peft, unless the ledger lists other.

    Listed from what the matrix measured on tiny models; not measured at this size.
    """

    way: Way
    trainable: int
    issue: str | None
    """Id of the known issue because of which it is not all of the adapters."""
    title: str | None
    unmeasured: str | None = None
    """Title of the known issue because of which the matrix, on a CPU, never got as far as this trainer."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The census of one model on one stack, with what there is to say about it."""

    subject: Subject
    stack: str
    """With its Python, such as `trl0.22-py311`."""
    lora: Lora
    quantization: Quantization
    dtype: LoadDtype
    table: StageTable
    trainers: tuple[Trainer, ...]
    findings: tuple[TargetFinding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """Unhealthy if there is any verdict."""
        return ExitCode.UNHEALTHY if self.findings else ExitCode.HEALTHY

    @property
    def parameters(self) -> int:
        """Parameters of the base model, unpacked."""
        return self.table.stages[0].total_logical


def take(
    subject: Subject, stack: StackPython, lora: Lora, quantization: Quantization, dtype: LoadDtype, ledger: Ledger
) -> Taken:
    """The census of `subject` on `stack`.

    Raises:
        CompatError: the stack's Transformers has no class for the config, or rejects it.
        StackFailed: the stack gave no answer.
    """
    request = StageTableRequest(subject.config, lora.options, quantization, dtype, subject.layers_alike)
    raw = ask(stack, CELL_MODULE, dataclasses.asdict(request))
    if "why" in raw:
        raise _cannot(_INABILITY.validate_python(raw), subject, stack.name)
    table = _TABLE.validate_python(raw)
    return Taken(
        subject=subject,
        stack=stack.name,
        lora=lora,
        quantization=quantization,
        dtype=dtype,
        table=table,
        trainers=trainers(table, quantization, {**stack.lock.requirements, "torch": stack.lock.facts["torch"]}, ledger),
        findings=findings(table, lora, quantization),
    )


def _cannot(answer: Inability, subject: Subject, stack: str) -> CompatError:
    kind = subject.config["model_type"]
    known = subject.family or next((family for family in families() if family.config["model_type"] == kind), None)
    since = f"Transformers reads {known.title} from {known.since} on." if known else ""
    if answer.why is CannotBuild.NO_CLASS:
        return CompatError(
            f"Transformers {answer.transformers} has no {answer.message}",
            where=stack,
            meaning=since or "The model is newer than this Transformers, or its code is not part of Transformers.",
            todo="Name another stack with --stack; `compat stacks` says which Transformers each has.",
        )
    return CompatError(
        f"Transformers {answer.transformers} rejects the config: {answer.message}",
        where=stack,
        meaning=(since if subject.family else "")
        or "A value is not what this version accepts, or sizes do not fit together.",
        todo="Correct the config, or name another stack with --stack.",
    )


def trainers(
    table: StageTable, quantization: Quantization, versions: Mapping[str, str], ledger: Ledger
) -> tuple[Trainer, ...]:
    """What SFTTrainer leaves trainable, for each way; nothing where PEFT attached no adapters."""
    count = table.count(Stage.PEFT)
    if count is None:
        return ()
    return tuple(_trainer(way, count.trainable, quantization, versions, ledger) for way in Way)


def _trainer(
    way: Way, adapters: int, quantization: Quantization, versions: Mapping[str, str], ledger: Ledger
) -> Trainer:
    precision = Precision.FULL if quantization is Quantization.NONE else Precision(quantization)
    # As on a GPU, which a model of this size is trained on, and in the variant for which all issues are listed.
    variant = Variant(QWEN2, precision, gradient_checkpointing=True)
    for deviation in ledger.listed(way, variant, DeviceKind.CUDA, versions):
        if deviation.check == FREEZES:
            return Trainer(way, 0, deviation.issue, deviation.title)
    return Trainer(way, adapters, None, None, _unmeasured(way, variant, versions, ledger))


def _unmeasured(way: Way, variant: Variant, versions: Mapping[str, str], ledger: Ledger) -> str | None:
    """What ends the cells of the matrix, which run on a CPU, before there is a trainer."""
    platform = (issue for issue in ledger.issues if issue.kind is Kind.PLATFORM)
    return next(
        (
            issue.title
            for issue in platform
            for shown in issue.shows
            if shown.check == ENDS and shown.takes_in(way, variant, DeviceKind.CPU, versions)
        ),
        None,
    )
