"""Train one adapter in several ways that must give the same losses, and return the loss of every step.

Run as a module in a stack's environment, with a request and an answer file. The processes of a distributed run are
started here, with the variables that `torchrun` sets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl
from transformers import TrainerCallback, set_seed

from finetune_compat.cell import adapt, data
from finetune_compat.cell.models import tiny_model
from finetune_compat.cell.objectives import online, preference, sft
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import LEARNING_RATE, LLAMA, LORA, MODELS, ROW_WORDS, Subject
from finetune_compat.contract.records import DeviceKind, Precision, Variant
from finetune_compat.contract.trajectory import ROWS, STEPS, Task, Way
from finetune_compat.machine.child_processes import PARENT

_ACCUMULATED = 4
_PROCESSES = 2
_LIMIT_S = 200.0
"""Seconds for the processes of a distributed run, with their imports."""

_SHORTEST_ROW = ROW_WORDS // 4


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """The result of one request.

    Args:
        request: `scratch`, an empty directory; `runs`, each with `task`, `way`, `seed`, and `rate`, a factor of the
            learning rate.
    """
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    scratch = Path(request["scratch"])
    return {
        "versions": {library.__name__: library.__version__ for library in (trl, transformers, peft, torch)},
        "runs": [_outcome(run, scratch) for run in request["runs"]],
    }


class _AbsentError(Exception):
    """The release has no such trainer or option."""


def _outcome(run: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """The losses and a digest of the trained weights of each process, or the error, or what this release lacks."""
    try:
        if run["way"] == Way.TWO_PROCESSES and "RANK" not in os.environ:
            return _distributed(run)
        losses, weights = _trained(run, Path(tempfile.mkdtemp(dir=scratch)))
    except _AbsentError as absent:
        return {"losses": [], "weights": [], "error": "", "absent": str(absent)}
    except Exception as error:  # noqa: BLE001 - every exception of a library is an observation
        return {"losses": [], "weights": [], "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    return {"losses": losses, "weights": [weights], "error": ""}


# ---------------------------------------------------------------------------------------------------------- processes


def _distributed(run: Mapping[str, Any]) -> dict[str, Any]:
    """The outcome of `run` in several processes: the losses of the first, the weights of all."""
    with tempfile.TemporaryDirectory() as parent, contextlib.ExitStack() as stack:
        folders, port = [Path(parent, str(rank)) for rank in range(_PROCESSES)], _free_port()
        children = []
        for rank, folder in enumerate(folders):
            children.append(stack.enter_context(_started(run, rank, port, folder)))
            stack.callback(children[-1].kill)
        for child in children:
            child.wait(_LIMIT_S)
        found = [_read(folder) for folder in folders]
    return {
        "losses": found[0]["losses"],
        "weights": [digest for one in found for digest in one["weights"]],
        **{kind: next((one[kind] for one in found if one.get(kind)), "") for kind in ("error", "absent")},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _started(run: Mapping[str, Any], rank: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"scratch": str(folder), "runs": [run]}), encoding="utf-8")
    environ = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(_PROCESSES),
        "LOCAL_WORLD_SIZE": str(_PROCESSES),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        PARENT: str(os.getpid()),
    }
    command = [sys.executable, "-P", "-m", "finetune_compat.cell.answering", "finetune_compat.cell.trajectories"]
    with (folder / "stderr.txt").open("wb") as stderr:
        files = [str(folder / "request.json"), str(folder / "answer.json")]
        return subprocess.Popen([*command, *files], env=os.environ | environ, stdout=stderr, stderr=stderr)


def _read(folder: Path) -> dict[str, Any]:
    """The outcome of one process. One that ended without an answer has its last line of output as its error."""
    try:
        [found] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["runs"]
    except FileNotFoundError:
        said = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip() or "no output"
        return {
            "losses": [],
            "weights": [],
            "error": f"a process ended without an answer: {said.splitlines()[-1][:300]}",
        }
    outcome: dict[str, Any] = found
    return outcome


# ----------------------------------------------------------------------------------------------------------- training


def _trained(run: Mapping[str, Any], scratch: Path) -> tuple[list[float], str]:
    """The loss of every step, and a digest of the trained weights."""
    if run["way"] != Way.RESUME:
        trainer = _trainer(run, scratch)
        trainer.train()
        return _result(trainer)
    interrupted = _trainer(run, scratch)
    interrupted.add_callback(_Interruption())
    interrupted.train()
    trainer = _trainer(run, scratch)
    trainer.train(resume_from_checkpoint=str(next(scratch.glob("trainer/checkpoint-*"))))
    return _result(trainer)


class _Interruption(TrainerCallback):
    """Saves a checkpoint after half of the steps, and stops."""

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        control.should_save = control.should_training_stop = state.global_step == STEPS // 2


def _result(trainer: Any) -> tuple[list[float], str]:
    digest = hashlib.sha256()
    for name, parameter in sorted(trainer.accelerator.unwrap_model(trainer.model).named_parameters()):
        if parameter.requires_grad:
            digest.update(name.encode() + parameter.detach().float().numpy().tobytes())
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry], digest.hexdigest()[:16]


def _trainer(run: Mapping[str, Any], scratch: Path) -> Any:
    task, way, seed = Task(run["task"]), Way(run["way"]), run["seed"]
    trainer_class = getattr(trl, f"{task}Trainer", None)
    if trainer_class is None or not hasattr(trl, f"{task}Config"):
        raise _AbsentError(f"{task}Trainer with {task}Config")
    set_seed(seed)
    setup = _setup(way, seed, run["rate"], scratch)
    arguments = {Task.SFT: _sft_arguments, Task.DPO: preference.arguments, Task.GRPO: online.arguments}[task](setup)
    if way is Way.PADDING_FREE:
        if not hasattr(arguments["args"], "padding_free"):
            raise _AbsentError("padding_free")
        arguments["args"].padding_free = True
        # It is not applied to rows that are not packed, which TRL refuses to pass over. All rows are shorter.
        arguments["args"].max_length = None
    return trainer_class(model=adapt.load_model(setup), peft_config=adapt.lora_config(setup), **arguments)


def _setup(way: Way, seed: int, rate: float, scratch: Path) -> Setup:
    accumulated = _ACCUMULATED if way is Way.ACCUMULATION else 1
    return Setup(
        variant=Variant(LLAMA, Precision.FULL, way is Way.CHECKPOINTING),
        device=DeviceKind.CPU,
        emulates=None,
        model=tiny_model(MODELS[LLAMA].shape, seed, scratch),
        # Without dropout: the processes of a distributed run draw different masks.
        lora=dataclasses.replace(LORA, dropout=0.0),
        attention="sdpa",
        scratch=scratch,
        learning_rate=LEARNING_RATE[Subject.ADAPTER] * rate,
        steps=STEPS,
        seed=seed,
        rows=ROWS // accumulated // int(os.environ.get("WORLD_SIZE", "1")),
        accumulation=accumulated,
    )


def _sft_arguments(setup: Setup) -> dict[str, Any]:
    """Rows of different lengths: the mean over the labels of a step is then not the mean of the means of its parts."""
    given = sft.arguments(setup)
    rows = data.texts(setup.seed)[0]
    given["train_dataset"] = datasets.Dataset.from_dict({"text": [_shortened(row, at) for at, row in enumerate(rows)]})
    return given


def _shortened(row: str, at: int) -> str:
    words = row.split(" ")
    return " ".join(words[: _SHORTEST_ROW + at % (len(words) - _SHORTEST_ROW + 1)])


if __name__ == "__main__":
    asked, answered = (Path(name) for name in sys.argv[1:])
    answered.write_text(json.dumps(answer_to(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
