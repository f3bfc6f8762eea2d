"""The inputs of the golden gates, made from hand-made observations: `python tests/golden/gates.py` writes them.

Each is a run with both sides, and the ledger and policy that judge it. As with `scenarios.py`, `pytest tests/golden
--accept` accepts the expected files after they were read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import date

import scenarios  # sets the path
from scenarios import HERE, LISTED, NO_SOLUTION, NOTHING_LISTED, Part

import builders as b  # isort: skip
from finetune_compat.checks.comparison import Change
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.records import DeviceKind, Frame, Observation, Stage, Variant
from finetune_compat.gate.decide import Compared, Defaults, decide
from finetune_compat.gate.decision import DefaultChange, Gate, Rule, SafeTarget, Side, Tried
from finetune_compat.gate.policy import Exempted, load_policy
from finetune_compat.results.run_files import RowState, judged

FOLDER = HERE / "gates"
TODAY = date(2026, 11, 24)
BASE, CANDIDATE = "0.19.1", "0.24.0"


@dataclass(frozen=True)
class Scenario:
    """Both sides of a gate, and its other inputs."""

    before: Part
    after: Part
    versions: tuple[str, str]
    """TRL's version on both sides."""
    ledger: str = NOTHING_LISTED
    defaults: tuple[DefaultChange, ...] = ()
    target: SafeTarget | None = None
    exceptions: tuple[Exempted, ...] = ()
    not_followed: tuple[str, ...] = field(default=())


def _cells(trl: str) -> tuple[Observation, ...]:
    """Healthy cells of two flows, one of them in all three forms of trl#3926."""
    pairs: tuple[tuple[str, Variant], ...] = (
        ("sft-peft-config", b.NF4),
        ("sft-peft-config", b.FULL),
        ("sft-peft-model", b.NF4),
        ("sft-peft-model", b.NF4_NOGC),
        ("sft-peft-model", b.INT8),
    )
    return tuple(b.healthy(flow, variant, stack=_stack(trl), versions=b.on_trl(trl)) for flow, variant in pairs)


def _stack(trl: str) -> str:
    return f"trl{trl}-py311"


def _healthy(trl: str) -> Part:
    return Part(_stack(trl), _cells(trl))


def _frozen(trl: str) -> Part:
    config, full, silent, loud, int8 = _cells(trl)
    return Part(_stack(trl), (config, full, b.frozen(silent), b.frozen_loud(loud), b.frozen(int8)))


def _drifted(trl: str) -> Part:
    """Every cell learns and starts from another loss."""
    return Part(_stack(trl), tuple(b.losses(seen, 4.4012, 3.9011) for seen in _cells(trl)))


def _stalled(trl: str) -> Part:
    config, *rest = _cells(trl)
    return Part(_stack(trl), (b.learns_nothing(config), *rest))


def _lost(trl: str) -> Part:
    config, full, silent, *_ = _cells(trl)
    never = tuple(
        str(CellId(_stack(trl), "sft-peft-model", str(variant), DeviceKind.CPU)) for variant in (b.NF4_NOGC, b.INT8)
    )
    return Part(_stack(trl), (config, full, b.out_of_memory(silent)), (), never)


def _mixed(trl: str) -> Part:
    """One cell of every kind of change."""
    config, full, silent, _, int8 = _cells(trl)
    place = Frame("trl/trainer/sft_trainer.py", 712, "__init__", "self.aux_loss_enabled = args.aux_loss")
    crash = b.failed(full, "AttributeError", "'SFTConfig' object has no attribute 'aux_loss'", Stage.TRAINER, place)
    lost = str(CellId(_stack(trl), "sft-peft-model", str(b.NF4_NOGC), DeviceKind.CPU))
    return Part(_stack(trl), (b.losses(config, 4.4012, 3.9011), crash, b.frozen(silent), int8), (lost,))


def _mixed_before(trl: str) -> Part:
    config, full, silent, loud, int8 = _cells(trl)
    return Part(_stack(trl), (config, full, silent, loud, b.adapter_replaced(int8)))


FLAGSHIP = SafeTarget(
    "trl",
    "0.23.1",
    True,
    (Tried("0.23.0", False, "C104 0 trainable at trainer, expected 16,384"), Tried("0.23.1", True, "")),
    0,
)
NOWHERE = SafeTarget("trl", None, True, (Tried("0.25.1", False, "E802 eval loss rises"),), 4)
CHECKPOINTING = DefaultChange("SFTConfig", "gradient_checkpointing", "False", "True")
ADDED = DefaultChange("SFTConfig", "loss_type", None, "'nll'")

SCENARIOS: dict[str, Scenario] = {
    "clean-upgrade": Scenario(_healthy("0.23.1"), _healthy(CANDIDATE), ("0.23.1", CANDIDATE)),
    "silent-freeze": Scenario(
        _healthy(BASE),
        _frozen("0.22.2"),
        (BASE, "0.22.2"),
        LISTED,
        (CHECKPOINTING, ADDED),
        FLAGSHIP,
    ),
    "objective-drift": Scenario(_healthy("0.23.1"), _drifted(CANDIDATE), ("0.23.1", CANDIDATE), defaults=(ADDED,)),
    "loss-stalls": Scenario(_healthy("0.23.1"), _stalled(CANDIDATE), ("0.23.1", CANDIDATE), target=NOWHERE),
    "infrastructure-failure": Scenario(_healthy("0.23.1"), _lost(CANDIDATE), ("0.23.1", CANDIDATE)),
    "fixed-upstream": Scenario(_frozen("0.22.2"), _healthy(CANDIDATE), ("0.22.2", CANDIDATE), LISTED),
    "uninstallable": Scenario(
        _healthy("0.23.1"),
        Part(_stack("0.4.7"), state=RowState.UNINSTALLABLE, reason=NO_SOLUTION),
        ("0.23.1", "0.4.7"),
    ),
    "mixed": Scenario(
        _mixed_before(BASE),
        _mixed("0.22.2"),
        (BASE, "0.22.2"),
        LISTED,
        exceptions=(
            Exempted(None, "trl#3926", None, "we hand over the base model", date(2027, 1, 31)),
            Exempted("sft-peft-config", None, Change.REGRESSED, "until the old config is gone", date(2026, 10, 1)),
        ),
        not_followed=("torch 2.6.0: torch is the machine's",),
    ),
}


def gate_of(name: str, run: scenarios.Path) -> Gate:
    """Return the decision of a scenario whose inputs are in `run`."""
    given, ledger = SCENARIOS[name], load_ledger(FOLDER / name / "ledger.toml")
    policy = load_policy(ledger)
    one, other = (
        _side(part, trl, given) for part, trl in zip((given.before, given.after), given.versions, strict=True)
    )
    compared = Compared(
        before=one,
        after=other,
        results=judged(run, ledger),
        ledger=ledger,
        policy=dataclasses.replace(policy, exceptions=given.exceptions),
        today=TODAY,
        command=f"compat gate --from {one.asked} --to {other.asked}",
        narrowed="",
        left_out=(),
    )
    news = [seen.cell.partition("/")[2] for seen in given.after.seen] if given.target else []
    targets = {cell: given.target for cell in news if given.target}
    return decide(compared, Defaults(given.defaults, ""), targets)


def _side(part: Part, trl: str, given: Scenario) -> Side:
    solved = part.state is not RowState.UNINSTALLABLE
    return Side(
        asked=f"trl=={trl}",
        stack=part.stack,
        rule=Rule.OF_ITS_DAY,
        as_of=date(2025, 9, 1),
        versions=b.on_trl(trl) if solved else {},
        not_followed=given.not_followed,
        lock_sha256="5f" * 32 if solved else "",
        state=part.state,
        reason=part.reason,
    )


if __name__ == "__main__":
    for name, scenario in SCENARIOS.items():
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        scenarios.write(FOLDER / name, scenario.ledger, [scenario.before, scenario.after])
