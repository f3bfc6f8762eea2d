"""Cost of a TrainingGuard per step: its own time as a share of the step's, and the ratio to a step without it.

nox -s "compat-3.11(trl='0.22')" -- --guard-overhead

Its own time is the time in its callbacks and in its hooks on tensors and on the model. One run has three kinds of steps
in turn: without a guard, with a guard that skips the step, with a guard that checks it. Each guarded step is also
compared with its neighbour without a guard; this includes the cost of calling a hook, and varies more than the guard
costs. The exit code is 1 if the guard's own time is a hundredth of the steps' or more.

On a CPU, times are processor time, which other processes do not change. On a GPU they are wall-clock time, and checking
waits for the device: its share is then an upper bound.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from finetune_compat import TrainingGuard
from finetune_compat.cell.instruments.live import StepLook
from finetune_compat.contract.plan import read_plan
from guard_share import EVERY, STEPS, TARGET, Cost
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config, Trainer, TrainerCallback, TrainingArguments

FIRST = 5
"""Rounds that count as the first steps of a run: a guard checks three, and compares weights once after them."""

NONE, IDLE, LOOKING = range(3)
"""Kinds of steps, in their order."""

SIZES = {
    # name: hidden size, intermediate size, layers, heads, vocabulary, rows, tokens a row, rounds
    "tiny": (64, 128, 2, 4, 128, 8, 25, 100),
    "66M": (640, 1792, 12, 10, 8_000, 2, 128, 15),
}

_clock = time.perf_counter if torch.cuda.is_available() else time.process_time


class Watch:
    """Seconds spent in the wrapped functions since the last read."""

    def __init__(self) -> None:
        self._spent = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with its time counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            start = _clock()
            try:
                return function(*args, **kwargs)
            finally:
                self._spent += _clock() - start

        return counted

    def read(self) -> float:
        """Return the time and reset it."""
        spent, self._spent = self._spent, 0.0
        return spent


WATCH = Watch()


def _count_hooks() -> None:
    """Hooks of a check on tensors and on the model are part of the guard's time."""
    listener = StepLook._listener
    StepLook._listener = lambda self, number: WATCH.timed(listener(self, number))  # type: ignore[method-assign]
    StepLook._note_labels = _timed_method(StepLook._note_labels)  # type: ignore[method-assign]


def _timed_method(method: Callable[..., Any]) -> Any:
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        return WATCH.timed(method)(self, *args, **kwargs)

    return counted


class Turns(TrainerCallback):
    """Distribute steps to no guard, to one that has finished its checks, and to one that checks every step."""

    def __init__(self) -> None:
        self.guards = (None, TrainingGuard(every=10**9), TrainingGuard(every=1))
        self.seconds: tuple[list[float], ...] = ([], [], [])
        self.own: tuple[list[float], ...] = ([], [], [])
        self.begin = self._start = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        for guard in filter(None, self.guards):
            WATCH.timed(guard.on_train_begin)(args, state, control, **given)
        self.begin = WATCH.read() / 2

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._start = _clock()
        if guard := self.guards[state.global_step % 3]:
            WATCH.timed(guard.on_step_begin)(args, state, control, **given)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        turn = (state.global_step - 1) % 3
        if guard := self.guards[turn]:
            WATCH.timed(guard.on_step_end)(args, state, control, **given)
        self.seconds[turn].append(_clock() - self._start)
        self.own[turn].append(WATCH.read())

    def cost(self) -> Cost:
        """Medians of the measurements."""
        step, idle, looking = (
            statistics.median(column[FIRST:]) for column in (self.seconds[NONE], self.own[IDLE], self.own[LOOKING])
        )
        return Cost(step, self.begin, tuple(self.own[IDLE][:FIRST]), idle, looking)

    def ratio(self, turn: int) -> float:
        """Additional time of a step of this kind compared with its neighbour without a guard, as a share."""
        plain = self.seconds[NONE][FIRST:]
        pairs = zip(self.seconds[turn][FIRST:], plain, strict=True)
        return statistics.median(other - without for other, without in pairs) / statistics.median(plain)


def _model(size: str, *, adapters: bool) -> nn.Module:
    hidden, intermediate, layers, heads, vocabulary, *_ = SIZES[size]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
    )
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    return get_peft_model(model, LoraConfig(r=16, target_modules="all-linear")) if adapters else model


def _measured(model: nn.Module, size: str, directory: Path) -> Turns:
    *_, vocabulary, batch, tokens, rounds = SIZES[size]
    turns = Turns()
    rows = torch.randint(vocabulary, (256, tokens)).tolist()
    options = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=batch,
        max_steps=3 * (FIRST + rounds),
        logging_steps=3 * (FIRST + rounds),
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(
        model=model,
        args=options,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[turns],
    ).train()
    return turns


COLUMNS = {
    "model": 6,
    "trained": 11,
    "tensors": 8,
    "step s": 8,
    "begin s": 8,
    "first s": 8,
    "idle ms": 8,
    "look ms": 8,
    "share": 7,
    "later": 7,
    "A/B idle": 9,
    "A/B look": 9,
}
"""Headings and widths of the columns."""


def _told(values: Iterable[str]) -> str:
    return " ".join(value.rjust(width) for value, width in zip(values, COLUMNS.values(), strict=True))


def main(plan_file: str) -> int:
    directory = read_plan(Path(plan_file)).scratch
    _count_hooks()
    print(_told(COLUMNS))
    costs = []
    for size, adapters in (("tiny", True), ("66M", True), ("66M", False)):
        model = _model(size, adapters=adapters)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        turns = _measured(model, size, directory)
        cost = turns.cost()
        costs.append(cost)
        numbers = (
            *(f"{cost.step:.3f}", f"{cost.begin:.4f}", f"{sum(cost.first):.4f}"),
            *(f"{1000 * cost.idle:.3f}", f"{1000 * cost.looking:.2f}", f"{cost.share:.2%}", f"{cost.later:.2%}"),
            *(f"{turns.ratio(IDLE):+.2%}", f"{turns.ratio(LOOKING):+.2%}"),
        )
        print(_told((size, f"{sum(map(torch.numel, trained)):,}", str(len(trained)), *numbers)), flush=True)
    print(
        f"share: the guard's own time in a run of {STEPS} steps, all it does included; later: after the first {FIRST}, "
        f"with one step in {EVERY} looked at. Both must be under {TARGET:.0%}. A/B: by how much a step with it takes "
        "longer than its neighbour without, medians."
    )
    return int(any(cost.too_much for cost in costs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
