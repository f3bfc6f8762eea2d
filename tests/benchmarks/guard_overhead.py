"""What a TrainingGuard costs a step, on a model large enough that a step takes about a second on one core.

    nox -s "compat-3.11(trl='0.22')" -- --guard-overhead

One run, three kinds of step in turn: without the guard, with a guard that does not look at this one, with a guard that
looks. Each is held against its neighbour without a guard, in seconds of processor time, so that what else the machine
does takes part in none of them.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config, Trainer, TrainerCallback, TrainingArguments

from harness import TrainingGuard
from harness.plan import read_plan

EVERY = 50
"""The guard's own default."""
ROUNDS = 20
FIRST = 5
"""Rounds left out: a guard looks at its first three steps and compares weights once after them."""
BATCH, TOKENS, VOCABULARY = 4, 128, 8_000


class Turns(TrainerCallback):
    """Gives the steps to no guard, to one that has done its looking, and to one that looks at every step."""

    def __init__(self) -> None:
        self.guards = (None, TrainingGuard(every=10**9), TrainingGuard(every=1))
        self.seconds: tuple[list[float], ...] = ([], [], [])
        self.at_begin = self._start = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        start = time.process_time()
        for guard in filter(None, self.guards):
            guard.on_train_begin(args, state, control, **given)
        self.at_begin = (time.process_time() - start) / 2

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._start = time.process_time()
        if guard := self.guards[state.global_step % 3]:
            guard.on_step_begin(args, state, control, **given)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        turn = (state.global_step - 1) % 3
        if guard := self.guards[turn]:
            guard.on_step_end(args, state, control, **given)
        self.seconds[turn].append(time.process_time() - self._start)


def _model(*, adapters: bool) -> nn.Module:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    return get_peft_model(model, LoraConfig(r=16, target_modules="all-linear")) if adapters else model


def _measured(model: nn.Module, directory: Path) -> Turns:
    turns = Turns()
    rows = torch.randint(VOCABULARY, (256, TOKENS)).tolist()
    options = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=BATCH,
        max_steps=3 * (FIRST + ROUNDS),
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


def main(plan_file: str) -> None:
    directory = read_plan(Path(plan_file)).scratch
    print("   trained  tensors  step s  not looked at  looked at  one in 50  begin s")
    for adapters in (True, False):
        model = _model(adapters=adapters)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        turns = _measured(model, directory)
        plain, passed, looked = (column[FIRST:] for column in turns.seconds)
        step = statistics.median(plain)
        idle, busy = (
            statistics.median(other - without for other, without in zip(column, plain, strict=True)) / step
            for column in (passed, looked)
        )
        print(
            f"{sum(map(torch.numel, trained)):10,} {len(trained):8} {step:7.3f} {idle:14.2%} {busy:10.2%} "
            f"{idle + (busy - idle) / EVERY:10.2%} {turns.at_begin:8.3f}",
            flush=True,
        )
    print(f"Medians of {ROUNDS} rounds; the target is less than 1 % of a step with one in {EVERY} looked at.")


if __name__ == "__main__":
    main(sys.argv[1])
