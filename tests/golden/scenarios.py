"""The inputs of the golden scenarios, made from hand-made observations: `python tests/golden/scenarios.py` writes them.

Needed only if the schema of observations changes. `pytest tests/golden --accept` accepts the expected files after they
were read.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parent / "unit"),
    str(HERE.parent.parent),
]  # also run as a script, where pytest has not set the path

import builders as b  # noqa: E402  # after the path is set
from finetune_compat.contract.catalog import CATALOG, cells_on  # noqa: E402
from finetune_compat.contract.cell_id import CellId  # noqa: E402
from finetune_compat.contract.records import DeviceKind, Frame, Observation, Stage, Started, to_json  # noqa: E402
from finetune_compat.results.run_files import RowState, StackRow, write_row  # noqa: E402

LISTED = """[[issue]]
id = "trl#3926"
title = "SFTTrainer freezes the adapters of a PeftModel it is handed"
kind = "upstream"
link = "https://github.com/huggingface/trl/issues/3926"
cause = "SFTTrainer prepares a PeftModel for k-bit training a second time, which freezes every parameter."
remedy = "Hand the base model and peft_config to SFTTrainer, or use TRL 0.23.1 or newer."
needs = "a PeftModel"
sees = "0 trainable parameters"
imports = ["trl.SFTTrainer"]
fixed_by = "https://github.com/huggingface/trl/pull/4081"

[[issue.shows]]
windows = { trl = ">=0.20.0,<0.23.1" }
flows = ["sft-peft-model"]
precisions = ["nf4", "int8"]
check = "C104"
froze = "trl/models/utils.py::prepare_peft_model -> peft/utils/other.py::prepare_model_for_kbit_training"
symptom = "flat"
error = "RuntimeError: element 0 of tensors does not require grad"
raised = "transformers/trainer.py::training_step"
stage = "training"
"""
NOTHING_LISTED = "issue = []\n"


@dataclass(frozen=True)
class Part:
    """One stack of a scenario."""

    stack: str
    seen: tuple[Observation, ...] = ()
    lost: tuple[str, ...] = ()
    """Cells that started and never finished."""
    never: tuple[str, ...] = ()
    """Cells that were selected and never started."""
    state: RowState = RowState.RAN
    reason: str = ""


def _small(stack: str, trl: str) -> tuple[Observation, ...]:
    """Healthy cells of two flows."""
    pairs = [
        ("sft-peft-config", b.NF4),
        ("sft-peft-config", b.FULL),
        ("sft-peft-model", b.NF4),
        ("sft-peft-model", b.INT8),
    ]
    return tuple(b.healthy(flow, variant, stack=stack, versions=b.on_trl(trl)) for flow, variant in pairs)


def _with_the_flagship(stack: str, trl: str) -> tuple[Observation, ...]:
    """Every cell of a CPU; those of trl#3926 freeze where the ledger lists it."""
    return tuple(
        _frozen_if_listed(b.healthy(flow.name, variant, stack=stack, versions=b.on_trl(trl)))
        for flow, variant in cells_on(DeviceKind.CPU)
    )


def _frozen_if_listed(seen: Observation) -> Observation:
    if seen.flow != "sft-peft-model" or seen.variant.precision.value not in ("nf4", "int8"):
        return seen
    return b.frozen(seen) if seen.variant.gradient_checkpointing else b.frozen_loud(seen)


def _healthy() -> list[Part]:
    refusing = b.refused(b.healthy("sft-peft-model-and-config", b.NF4))
    flows = [flow for flow in CATALOG if flow.correct]
    every = (b.healthy(flow.name, variant) for flow in flows for variant in flow.variants)
    return [Part("trl0.24-py311", (*every, refusing))]


def _unlisted() -> list[Part]:
    stack = "trl0.24-py311"
    config, full, model, int8 = _small(stack, "0.24.0")
    plain = b.healthy("trainer-peft-model", b.FULL, stack=stack, versions=b.on_trl("0.24.0"))
    return [Part(stack, (config, b.masked_labels(full), b.frozen(model), b.frozen(int8), b.zero_learning_rate(plain)))]


def _gone() -> list[Part]:
    stack = "trl0.22-py311"
    config, full, model, int8 = _small(stack, "0.22.2")
    return [Part(stack, (config, full, b.frozen(model), int8))]


def _infrastructure() -> list[Part]:
    stack = "trl0.24-py311"
    config, full, model, _ = _small(stack, "0.24.0")
    lost = str(CellId(stack, "sft-full", str(b.FULL), DeviceKind.CPU))
    never = (
        str(CellId(stack, "trainer-peft-model", str(b.NF4), DeviceKind.CPU)),
        str(CellId(stack, "trainer-peft-model", str(b.INT8), DeviceKind.CPU)),
    )
    return [
        Part(stack, (config, full, b.out_of_memory(model)), (lost,), never),
        Part(
            "trl0.25-py311",
            state=RowState.INFRASTRUCTURE,
            reason="pytest ended with status 139 before it could select any cell; its output is above",
        ),
    ]


NO_SOLUTION = """  x No solution found when resolving dependencies:
  `-> Because trl==0.4.7 depends on tyro==0.5.* and tyro==0.5.* was never published for Python 3.11,
      trl==0.4.7 cannot be used.
"""


def _mixed() -> list[Part]:
    """Stacks in the order of files: 0.9 sorts after 0.22 by name."""
    config, full, model, int8 = _small("trl0.22-py311", "0.22.2")
    loud = b.frozen_loud(b.healthy("sft-peft-model", b.NF4_NOGC, stack="trl0.22-py311", versions=b.on_trl("0.22.2")))
    fine, dead, good, replaced = _small("peft0.17-py311", "0.24.0")
    place = Frame("trl/trainer/sft_trainer.py", 712, "__init__", "self.aux_loss_enabled = args.aux_loss")
    crash = b.failed(dead, "AttributeError", "'SFTConfig' object has no attribute 'aux_loss'", Stage.TRAINER, place)
    lost = str(CellId("peft0.17-py311", "sft-full", str(b.FULL), DeviceKind.CPU))
    return [
        Part("trl0.9-py311", state=RowState.UNINSTALLABLE, reason=NO_SOLUTION),
        Part("trl0.22-py311", (config, full, b.frozen(model), b.frozen(int8), loud)),
        Part("peft0.17-py311", (fine, crash, good, b.adapter_replaced(replaced)), (lost,)),
    ]


SCENARIOS: dict[str, tuple[str, list[Part]]] = {
    "healthy": (NOTHING_LISTED, _healthy()),
    "silent-freeze-listed": (LISTED, [Part("trl0.22-py311", _with_the_flagship("trl0.22-py311", "0.22.2"))]),
    "unlisted-bug": (NOTHING_LISTED, _unlisted()),
    "listed-bug-gone": (LISTED, _gone()),
    "infrastructure": (NOTHING_LISTED, _infrastructure()),
    "uninstallable": (NOTHING_LISTED, [Part("trl0.4-py311", state=RowState.UNINSTALLABLE, reason=NO_SOLUTION)]),
    "mixed-window": (LISTED, _mixed()),
}


def write(folder: Path, ledger: str, parts: Iterable[Part]) -> None:
    """Write one scenario's inputs into `folder`."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    (folder / "run").mkdir(parents=True)
    (folder / "ledger.toml").write_text(ledger, encoding="utf-8")
    lines: list[str] = []
    for part in parts:
        cells = (*(seen.cell for seen in part.seen), *part.lost, *part.never)
        write_row(folder / "run", StackRow(part.stack, part.state, part.reason, cells))
        lines += [to_json(Started(cell=cell, started="2026-11-20T12:00:00+00:00")) for cell in part.lost]
        lines += [to_json(seen) for seen in part.seen]
    (folder / "run" / "observations.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    for name, (ledger, parts) in SCENARIOS.items():
        write(HERE / name, ledger, parts)
