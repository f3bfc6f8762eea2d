"""Take a census: ask a stack, add known issues of its trainer from the ledger, and judge the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter

from finetune_compat.census.families import Subject, families
from finetune_compat.census.lora import Lora
from finetune_compat.census.verdicts import TargetFinding, findings
from finetune_compat.checks.ledger import Ledger
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
from finetune_compat.contract.verdict import Kind
from finetune_compat.stacks.ask import StackPython, ask

CELL_MODULE = "finetune_compat.cell.stage_table"

_TABLE = TypeAdapter(StageTable)
_INABILITY = TypeAdapter(Inability)

FREEZES = "C104"
"""The check that fails if nothing is trainable after the trainer is built."""

ENDS = "F001"
"""The check that fails if a flow ends in an error."""


class Way(StrEnum):
    """How adapters reach SFTTrainer. Values are the flows of the matrix that measure it."""

    BASE = "sft-peft-config"
    """The base model and a peft_config: the trainer prepares and attaches."""
    WRAPPED = "sft-peft-model"
    """A PeftModel, prepared and wrapped by the user, without a peft_config."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trainable parameters after SFTTrainer is built: those of the stage peft, unless the ledger lists an issue.

    The ledger follows from measurements on tiny models. Nothing is measured at this size.
    """

    way: Way
    trainable: int
    issue: str | None
    """Id of the known issue that freezes adapters; None if there is none."""
    title: str | None
    unmeasured: str | None = None
    """Title of the known issue that ends the matrix's cells on a CPU before this trainer; None if there is none."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The census of one model on one stack, with its findings."""

    subject: Subject
    stack: str
    """With the Python version (example: `trl0.22-py311`)."""
    lora: Lora
    quantization: Quantization
    dtype: LoadDtype
    table: StageTable
    trainers: tuple[Trainer, ...]
    findings: tuple[TargetFinding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """UNHEALTHY if there is any finding."""
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
        StackFailed: the stack returned no result.
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
    """What SFTTrainer leaves trainable, for each `Way`; empty if PEFT attached no adapters."""
    count = table.count(Stage.PEFT)
    if count is None:
        return ()
    return tuple(_trainer(way, count.trainable, quantization, versions, ledger) for way in Way)


def _trainer(
    way: Way, adapters: int, quantization: Quantization, versions: Mapping[str, str], ledger: Ledger
) -> Trainer:
    precision = Precision.FULL if quantization is Quantization.NONE else Precision(quantization)
    # CUDA, because models of this size train on a GPU. The variant is the one for which all issues are listed.
    variant = Variant(QWEN2, precision, gradient_checkpointing=True)
    for deviation in ledger.listed(way, variant, DeviceKind.CUDA, versions):
        if deviation.check == FREEZES and not deviation.unmeasured:
            return Trainer(way, 0, deviation.issue, deviation.title)
    return Trainer(way, adapters, None, None, _unmeasured(way, variant, versions, ledger))


def _unmeasured(way: Way, variant: Variant, versions: Mapping[str, str], ledger: Ledger) -> str | None:
    """Title of the platform issue that ends the matrix's cells on a CPU before the trainer; None if there is none."""
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
