"""Write reports/field-notes.md: each statement of the users' field notes, with what was counted and measured.

    python docs/field_notes.py

Full-size figures come from `compat census`, without weights, on the stack of the report and on the newest; what
training does comes from the committed baseline. Nothing is written here that neither of them says.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from finetune_compat.census import lora as loras
from finetune_compat.census.command import newest_stack
from finetune_compat.census.families import find
from finetune_compat.census.taken import take
from finetune_compat.checks import Outcome, Symptom
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.objectives import FROM_A_GUESS
from finetune_compat.contract.census import LoadDtype, Quantization, StageCount, StageTable
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import Area, Observation, Stage, Training
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.order import stack_order
from finetune_compat.results.run_files import Results, judged
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.matrix import read_matrix

MODEL, REPORTED_STACK = "qwen2-vl-7b", "trl0.22"

VISION_TARGETS = ("qkv", "fc1", "fc2")

ASKED_RATE = 2e-4
"""Learning rate from which the five values of N4 follow: its linear schedule over ten steps, logged at every second."""


class Ruling(StrEnum):
    """What became of a statement."""

    REPRODUCED = "reproduced"
    REFUTED = "refuted"
    REFINED = "true in part"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the notes, and what was found."""

    note: str
    claimed: str
    found: str
    ruling: Ruling
    evidence: str


@dataclass(frozen=True, slots=True)
class FullSize:
    """The reported model on one stack, loaded and adapted in the ways the notes speak of."""

    stack: str
    four_bit: StageTable
    plain: StageTable
    """Loaded in bf16, not quantized."""
    with_vision: StageTable
    """In 4 bits, with the vision encoder's layers among the targets."""


def write() -> Path:
    """Take the censuses, read the baseline, and write the report anew.

    Raises:
        CompatError: an environment cannot be made, or the baseline cannot be read.
    """
    matrix, ledger = read_matrix(), load_ledger()
    sizes = [full_size(stack, ledger) for stack in (REPORTED_STACK, newest_stack(matrix))]
    results = judged(places().baselines / "cpu", ledger)
    page = places().reports / "field-notes.md"
    write_atomically(page, rendered(sizes, results))
    return page


def full_size(stack: str, ledger: Ledger) -> FullSize:
    """The censuses of `stack`."""
    python, subject = stack_python(read_matrix(), stack), find(MODEL)

    def table(quantization: Quantization, *more: str) -> StageTable:
        lora = loras.from_options(loras.RANK, loras.ALPHA, ",".join((*loras.TARGETS, *more)), "")
        return take(subject, python, lora, quantization, LoadDtype.BF16, ledger).table

    return FullSize(stack, table(Quantization.NF4), table(Quantization.NONE), table(Quantization.NF4, *VISION_TARGETS))


def rendered(sizes: Sequence[FullSize], results: Results) -> str:
    """The report, in Markdown."""
    settled = "\n".join(f"| {_cells(s)} |" for s in statements(sizes, results))
    return f"""# The field notes, settled

Written by `python docs/field_notes.py` from `compat census {MODEL}`
(no weights, on {" and ".join(size.stack for size in sizes)})
and from `reports/baseline/cpu` ({len(results.observations):,} cells, tiny models, really trained).
N1 to N4 are the users' own notes.

Which of N1 and N3 is right about the load stage? **N3.** Loading in 4 bits leaves trainable what is not quantized, at
full size and in every quantized cell of the matrix that loads; it is the preparation that leaves nothing.

| note | claimed | found | | evidence |
|---|---|---|---|---|
{settled}

N4's evaluation that looked its answers up, and reported an accuracy of 1.0 whatever the model did, is the bad case of
`finetune_compat.evaluation_responds` and of check E805: `nox -s "compat-3.11(trl='0.22')" -- --faults`.
"""


def _cells(statement: Statement) -> str:
    parts = (statement.note, statement.claimed, statement.found, statement.ruling, statement.evidence)
    return " | ".join(str(part).replace("|", r"\|") for part in parts)


def statements(sizes: Sequence[FullSize], results: Results) -> tuple[Statement, ...]:
    """Every statement with its ruling."""
    counted = [rule(sizes) for rule in _COUNTED]
    return (*counted, *(rule(results) for rule in _MEASURED))


# ------------------------------------------------------------------------------------------------------- at full size


def _at(table: StageTable, stage: Stage) -> StageCount:
    count = table.count(stage)
    if count is None:
        raise ValueError(f"the census of {MODEL} has no stage {stage}")
    return count


def _on_each(sizes: Sequence[FullSize], figure: Callable[[FullSize], str]) -> str:
    """A figure, said once where the stacks agree."""
    said = {size.stack: figure(size) for size in sizes}
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{stack}: {text}" for stack, text in said.items())


def _ruled(sizes: Sequence[FullSize], holds: Callable[[FullSize], bool]) -> Ruling:
    return Ruling.REPRODUCED if all(map(holds, sizes)) else Ruling.REFUTED


def _share(part: int, whole: int, digits: int) -> str:
    return f"{100 * part / whole:.{digits}f} %"


def _adapters(sizes: Sequence[FullSize]) -> Statement:
    def figure(size: FullSize) -> str:
        count = _at(size.four_bit, Stage.PEFT)
        share = _share(count.trainable, count.total_logical, 4)
        return f"{count.trainable:,} of {count.total_logical:,} logical ({share})"

    claimed = "161,480,704 of 8,452,856,320 (1.9104 %)"
    found = _on_each(sizes, figure)
    ruling = Ruling.REPRODUCED if found == claimed.replace("20 (", "20 logical (") else Ruling.REFUTED
    return Statement("N1", f"get_peft_model leaves {claimed}", found, ruling, "census, stage peft")


def _packed(sizes: Sequence[FullSize]) -> Statement:
    def figure(size: FullSize) -> str:
        count = _at(size.four_bit, Stage.PEFT)
        return f"{count.trainable:,} of {count.total:,} stored ({_share(count.trainable, count.total, 2)})"

    def holds(size: FullSize) -> bool:
        count = _at(size.four_bit, Stage.PEFT)
        return (round(count.total / 1e9, 2), _share(count.trainable, count.total, 2)) == (4.85, "3.33 %")

    claimed = "161M of 4.85B packed elements (3.33 %): two honest totals"
    return Statement("N3", claimed, _on_each(sizes, figure), _ruled(sizes, holds), "census, stage peft")


def _load(sizes: Sequence[FullSize]) -> Statement:
    def figure(size: FullSize) -> str:
        count = _at(size.four_bit, Stage.LOAD)
        return f"{count.trainable:,} of {count.total:,} stored ({_share(count.trainable, count.total, 2)})"

    def holds(size: FullSize) -> bool:
        count = _at(size.four_bit, Stage.LOAD)
        return (round(100 * count.trainable / count.total), round(count.trainable / 1e9, 1)) == (23, 1.1)

    claimed = "a load in 4 bits leaves about 23 % (1.1B) trainable: norms, embeddings, head"
    return Statement("N3", claimed, _on_each(sizes, figure), _ruled(sizes, holds), "census, stage load")


def _load_is_not_zero(sizes: Sequence[FullSize]) -> Statement:
    found = _on_each(sizes, lambda size: f"{_at(size.four_bit, Stage.LOAD).trainable:,}")
    ruling = _ruled(sizes, lambda size: _at(size.four_bit, Stage.LOAD).trainable == 0)
    return Statement("N1", "a load in 4 bits leaves 0 trainable", found, ruling, "census, stage load; and below")


def _prepared(sizes: Sequence[FullSize]) -> Statement:
    found = _on_each(sizes, lambda size: f"{_at(size.four_bit, Stage.PREPARE).trainable:,}")
    ruling = _ruled(sizes, lambda size: _at(size.four_bit, Stage.PREPARE).trainable == 0)
    return Statement("N1", "prepare_model_for_kbit_training leaves 0 trainable", found, ruling, "census, stage prepare")


def _in_full(sizes: Sequence[FullSize]) -> Statement:
    def figure(size: FullSize) -> str:
        count = _at(size.plain, Stage.LOAD)
        return f"{count.trainable:,} of {count.total:,} ({_share(count.trainable, count.total, 0)})"

    def holds(size: FullSize) -> bool:
        count = _at(size.plain, Stage.LOAD)
        return count.trainable == count.total and round(count.total / 1e9, 1) == 8.3  # noqa: PLR2004 - the note's figure

    claimed = "a load in BF16 leaves 100 % trainable (8.3B)"
    return Statement("N3", claimed, _on_each(sizes, figure), _ruled(sizes, holds), "census, not quantized, stage load")


def _names(sizes: Sequence[FullSize]) -> Statement:
    def number(size: FullSize, leaf: str, area: Area) -> int:
        return sum(w.count for w in size.with_vision.weights if w.leaf == leaf and w.area is area)

    def figure(size: FullSize) -> str:
        paths = sorted({w.path for w in size.with_vision.weights if w.leaf in ("q_proj", "qkv")})
        return (
            f"{number(size, 'q_proj', Area.LANGUAGE)} q_proj in the language model and "
            f"{number(size, 'q_proj', Area.VISION)} in the vision encoder, {number(size, 'qkv', Area.VISION)} qkv "
            f"({', '.join(paths)})"
        )

    def holds(size: FullSize) -> bool:
        found = (number(size, "q_proj", Area.LANGUAGE), number(size, "q_proj", Area.VISION))
        return (*found, number(size, "qkv", Area.VISION)) == (28, 0, 32)

    claimed = "28 q_proj, in the language model only; the vision encoder has 32 fused qkv, and fc1, fc2"
    return Statement("N3", claimed, _on_each(sizes, figure), _ruled(sizes, holds), "census, matched modules")


def _none_in_vision(sizes: Sequence[FullSize]) -> Statement:
    def trained(table: StageTable) -> int:
        seat = _at(table, Stage.PEFT).adapters_on.get(Area.VISION)
        return seat.trainable if seat else 0

    found = _on_each(
        sizes, lambda s: f"{trained(s.four_bit):,}; with qkv, fc1, fc2 among the targets {trained(s.with_vision):,}"
    )
    ruling = _ruled(sizes, lambda size: trained(size.four_bit) == 0)
    return Statement("N3", "0 trainable in the vision encoder", found, ruling, "census, adapters by area")


_COUNTED: tuple[Callable[[Sequence[FullSize]], Statement], ...] = (
    _load_is_not_zero,
    _load,
    _in_full,
    _prepared,
    _adapters,
    _packed,
    _names,
    _none_in_vision,
)


# ------------------------------------------------------------------------------------------------------ as measured


def _cells_of(results: Results, flow: str, keep: Callable[[Observation], bool] = lambda _: True) -> list[Observation]:
    return [seen for seen in results.observations.values() if seen.flow == flow and keep(seen)]


def _trained(seen: Iterable[Observation]) -> list[Training]:
    return [each.training for each in seen if each.training is not None]


def _frozen_by_the_trainer(results: Results) -> list[Observation]:
    listed = {v.cell for v in results.verdicts if v.outcome is Outcome.XFAIL and "trl#3926" in v.issues}
    return [results.observations[cell] for cell in sorted(listed)]


def _tiny_loads(results: Results) -> Statement:
    loads = [seen.census(Stage.LOAD) for seen in results.observations.values() if seen.variant.precision.quantized]
    taken = [census for census in loads if census is not None]
    zero = sum(census.trainable == 0 for census in taken)
    return Statement(
        "N1, N3",
        "what a quantized load leaves trainable",
        f"{zero} of {len(taken):,} quantized loads left nothing; all others exactly what is not quantized (C101)",
        Ruling.REPRODUCED if not zero else Ruling.REFUTED,
        "baseline; N3 is right",
    )


def _flat(results: Results) -> Statement:
    silent = _trained(_frozen_by_the_trainer(results))
    flat = [t for t in silent if t.eval_before is not None and f"{t.eval_before:.6f}" == f"{t.eval_after:.6f}"]
    still = [t for t in silent if t.accuracy_before == t.accuracy_after]
    example = f", such as {flat[0].eval_before:.6f} -> {flat[0].eval_after:.6f}" if flat else ""
    return Statement(
        "N1",
        "frozen by SFTTrainer: 0 trainable, eval loss flat to six decimals, accuracy flat",
        f"of {len(silent)} silent cells {len(flat)} have a flat eval loss{example}, {len(still)} a flat accuracy",
        Ruling.REPRODUCED if silent and len(flat) == len(still) == len(silent) else Ruling.REFUTED,
        "baseline, cells listed as trl#3926 that end without an error",
    )


def _wiggles(results: Results) -> Statement:
    losses = [t.loss for t in _trained(_frozen_by_the_trainer(results)) if t.loss]
    spread = [max(loss) - min(loss) for loss in losses]
    return Statement(
        "N1",
        "its training loss wiggles (dropout noise) without falling",
        f"in {len(losses)} silent cells the loss of ten steps spreads over {min(spread):.3f} to {max(spread):.3f}; "
        "whether dropout or the batches do it was not separated",
        Ruling.REFINED,
        "baseline",
    )


def _window(results: Results) -> Statement:
    hit = sorted(
        {s.stack.name for s in _frozen_by_the_trainer(results) if s.stack.name.startswith("trl")}, key=stack_order
    )
    versions = [
        next(s for s in results.observations.values() if s.stack.name == name).stack.resolved["trl"] for name in hit
    ]
    return Statement(
        "N1, N2",
        "TRL 0.4-0.8 often worked, 0.12+ more detection, 0.22.0.dev0 broken; helpers right below 0.21, wrong above",
        f"frozen on TRL {versions[0]} to {versions[-1]} and on no other; the matrix has every minor from 0.4 on",
        Ruling.REFUTED,
        "baseline; the window of trl#3926",
    )


def _warning(results: Results) -> Statement:
    def warned(seen: Observation) -> bool:
        return any("None of the inputs have requires_grad=True" in message.text for message in seen.warnings)

    passes = {v.cell for v in results.verdicts if v.outcome is Outcome.PASS and v.symptom is Symptom.FALLS}
    healthy = sum(warned(results.observations[cell]) for cell in passes)
    frozen = [seen for seen in _frozen_by_the_trainer(results) if seen.training is not None]
    return Statement(
        "N1",
        "the warning `None of the inputs have requires_grad=True` is a sign of it",
        f"seen in {healthy:,} of {len(passes):,} cells that pass and learn, and in {sum(map(warned, frozen))} of "
        f"{len(frozen)} silently frozen ones",
        Ruling.REFUTED,
        "baseline; no check rests on it",
    )


def _inference_mode(results: Results) -> Statement:
    cells = _cells_of(results, "sft-inference-mode-config", lambda s: s.census(Stage.TRAINER) is not None)
    frozen = sum(seen.census(Stage.TRAINER).trainable == 0 for seen in cells)  # type: ignore[union-attr]  # asked above
    return Statement(
        "N4",
        "a saved `inference_mode: true`, loaded again, freezes the adapter",
        f"{frozen} of {len(cells)} cells have 0 trainable at the trainer",
        Ruling.REPRODUCED if frozen == len(cells) else Ruling.REFUTED,
        "baseline, sft-inference-mode-config",
    )


def _cure(results: Results) -> Statement:
    cells = _cells_of(results, "sft-adapter-reload-edited", lambda s: s.census(Stage.TRAINER) is not None)
    frozen = sum(seen.census(Stage.TRAINER).trainable == 0 for seen in cells)  # type: ignore[union-attr]  # asked above
    return Statement(
        "N4",
        "the fix: `inference_mode=False` in the file, `train()`, `enable_input_require_grads()`",
        f"{frozen} of {len(cells)} cells are still frozen, and all that ran are silent: from_pretrained goes by "
        "is_trainable alone, and the hook hides it",
        Ruling.REFUTED if frozen else Ruling.REPRODUCED,
        "baseline, sft-adapter-reload-edited; docs/evidence.md",
    )


def _zero_loss(results: Results) -> Statement:
    masked, frozen = _trained(_cells_of(results, "rft-labels-masked")), _trained(_frozen_by_the_trainer(results))
    zero = [t for t in masked if t.loss and all(loss == 0 or math.isnan(loss) for loss in t.loss)]
    ordinary = [t for t in frozen if t.loss and all(loss > 0 for loss in t.loss)]
    return Statement(
        "N4",
        "the frozen adapter is what made loss 0.0 and grad_norm NaN",
        f"with every label masked, {len(zero)} of {len(masked)} cells log a loss of 0.0 or NaN; with frozen adapters "
        f"{len(ordinary)} of {len(frozen)} log an ordinary one",
        Ruling.REFUTED,
        "baseline; L501 names the one, C103 and C104 the other",
    )


def _plausible(results: Results) -> Statement:
    cells = [seen for flow in ("sft-all-linear", "rft-all-linear") for seen in _cells_of(results, flow)]
    pairs = [(t.reference_before, math.log(s.model.vocab_size)) for s in cells if (t := s.training) and s.model]
    losses = [loss for loss, _ in pairs if loss is not None]
    off = max(abs(loss / guess - 1) for loss, guess in pairs if loss is not None)
    return Statement(
        "N4",
        "the loss before training is finite and plausible (2.26)",
        f"{min(losses):.2f} to {max(losses):.2f} in {len(losses)} cells; a random model guesses among "
        f"{math.exp(pairs[0][1]):.0f} tokens, which has {pairs[0][1]:.2f}",
        Ruling.REPRODUCED if len(losses) == len(pairs) and off <= FROM_A_GUESS else Ruling.REFUTED,
        "baseline, sft-all-linear and rft-all-linear, E806; the number is that of our model",
    )


def _second_project(results: Results) -> Statement:
    trained = _trained([*_cells_of(results, "sft-all-linear"), *_cells_of(results, "rft-all-linear")])
    falls = [1 - t.eval_after / t.eval_before for t in trained if t.eval_before and t.eval_after]
    grads = [t.grad_norm[0] for t in trained if t.grad_norm]
    return Statement(
        "N4",
        "LoRA on all linear layers, alpha = 4r, no dropout: gradients flow, loss falls in 10 steps, parameters change",
        f"{len(trained)} cells: gradient norm {min(grads):.2f} to {max(grads):.2f} at the first step, eval loss falls "
        f"by {min(falls):.1%} to {max(falls):.1%}, every class of tensors changed (W701)",
        Ruling.REPRODUCED if min(falls) > 0 and min(grads) > 0 else Ruling.REFUTED,
        "baseline, sft-all-linear and rft-all-linear",
    )


def _labels(results: Results) -> Statement:
    cells = [seen.labels for seen in _cells_of(results, "rft-all-linear") if seen.labels is not None]
    per_row = sorted({labels.label_tokens / labels.samples for labels in cells})
    return Statement(
        "N4",
        "every sample has labels (14.58 label tokens on average)",
        f"{', '.join(f'{number:g}' for number in per_row)} label tokens a row in {len(cells)} cells, no row without",
        Ruling.REPRODUCED if all(not labels.all_masked for labels in cells) else Ruling.REFUTED,
        "baseline, rft-all-linear; the number is that of our rows",
    )


def _rates(results: Results) -> Statement:
    runs = [t for t in _trained(_cells_of(results, "sft-all-linear")) if len(t.learning_rate) == t.steps]
    scaled = {tuple(round(ASKED_RATE * rate / t.learning_rate[0], 12) for rate in t.learning_rate[1::2]) for t in runs}
    logged_next = sorted(
        {
            seen.stack.resolved["transformers"]
            for seen in _cells_of(results, "sft-all-linear")
            if seen.training and seen.training.learning_rate_logged[:1] == seen.training.learning_rate[1:2] != ()
        }
    )
    five = " and ".join(", ".join(f"{rate:.1e}" for rate in rates) for rates in sorted(scaled))
    return Statement(
        "N4",
        "learning rates 1.8e-4, 1.4e-4, 1.0e-4, 6e-5, 2e-5",
        f"read from the optimizer before every second step, as shares of the rate asked for, times 2e-4: {five}. "
        "The log shows the rate of the step "
        f"itself, but on Transformers {', '.join(logged_next)} that of the next",
        Ruling.REPRODUCED if scaled == {(1.8e-4, 1.4e-4, 1.0e-4, 6e-5, 2e-5)} else Ruling.REFUTED,
        "baseline, sft-all-linear, R601",
    )


_MEASURED: tuple[Callable[[Results], Statement], ...] = (
    _tiny_loads,
    _flat,
    _wiggles,
    _window,
    _warning,
    _inference_mode,
    _cure,
    _zero_loss,
    _plausible,
    _second_project,
    _labels,
    _rates,
)

if __name__ == "__main__":
    try:
        print(f"wrote {write()}")
    except CompatError as error:
        sys.exit(f"{error}")
