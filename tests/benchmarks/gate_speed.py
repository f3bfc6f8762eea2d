"""What a gate costs beside its floor: `python tests/benchmarks/gate_speed.py`. 5 minutes at most on two idle cores.

The floor is what no gate can skip: both environments from a warm package cache, in parallel, one import of each stack,
and the cell that decides, run by `straight_line.py` without a harness. It is measured before and after the gate, and
the mean counts, because the speed of a machine drifts. Everything but the package cache is new: the harness runs as an
installed package with cache directories of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
BEFORE, AFTER = "trl==0.19.1", "trl==0.22.2"
STACKS = ("trl0.19", "trl0.22")
LIBRARIES = "import torch, transformers, peft, trl, datasets, accelerate, bitsandbytes"

PLAN = """
import sys
from dataclasses import replace
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.matrix import read_matrix
stack = stack_python(read_matrix(), sys.argv[1])
base_torch = stack.environment.base_torch
plan = stack_run.plan_of(stack.name, stack.lock, RunOptions(), load_ledger(), DeviceKind.CPU, base_torch=base_torch)
cells = tuple(cell for cell in plan.cells if parse_cell(plan.id_of(cell)).name == sys.argv[2])
print(stack.python, stack_run.write_plan(replace(plan, cells=cells)))
"""
"""Makes the environment of a stack, and the plan of one cell."""

SCRIPT = """
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

torch.manual_seed(0)
letters = [*"w0123456789", "\\u0120"]
config = Qwen2Config(
    vocab_size=16, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, eos_token_id=12, pad_token_id=13, bos_token_id=None,
)
core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
rows = [{"text": " ".join(f"w{(a + b * i) % 20}" for i in range(16))} for a in range(20) for b in range(1, 5)]
trainer = SFTTrainer(
    model=Qwen2ForCausalLM(config),
    args=SFTConfig(output_dir="out", max_steps=10, learning_rate=1e-2, bf16=False, logging_steps=1, report_to="none"),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
)
trainer.train()
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table."""

    what: str
    seconds: float
    target: str
    met: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("cells", "script"), help="measure only gates of cells, or of a script")
    only = parser.parse_args(arguments).only
    with tempfile.TemporaryDirectory(prefix="compat-gate-speed-") as folder:
        work = Path(folder)
        environ = installed(work)
        rows = measure_cells(work, environ) if only != "script" else []
        rows += measure_script(work, environ) if only != "cells" else []
    print("| what | seconds | target |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.seconds:.1f} | {row.target}{'' if row.met else ', missed'} |")
    return int(not all(row.met for row in rows))


def installed(work: Path) -> dict[str, str]:
    """The variables of a process in which the harness is an installed package with new caches, except for packages."""
    package = work / "site" / "finetune_compat"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "harness" / "finetune_compat", package, ignore=ignored)
    shutil.copytree(ROOT / "matrices", package / "data" / "matrices", ignore=ignored)
    uv = [sys.executable, "-m", "uv", "cache", "dir"]
    packages = subprocess.run(uv, capture_output=True, text=True, check=True).stdout.strip()
    own = {"PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": str(work / "cache"), "UV_CACHE_DIR": packages}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMPAT_", "PYTHONDONTWRITE"))}
    return {**kept, **own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def measure_floor(work: Path, environ: dict[str, str]) -> float:
    """Seconds of the floor, in directories that are removed afterwards."""
    sys.path.insert(0, str(ROOT / "harness"))
    from finetune_compat.gate.known import order, read_known

    known = read_known()
    at = {stack.name: place for place, stack in enumerate(known.stacks)}
    ranks = order(known, *(at[f"{stack}-py311"] for stack in STACKS))
    decides = min(ranks, key=lambda name: ranks[name])
    own = {"XDG_CACHE_HOME": str(work / "floor"), "COMPAT_OUT": str(work / "floor" / "runs")}

    def side(stack: str) -> None:
        python, plan = run([sys.executable, "-c", PLAN, stack, decides], {**environ, **own}).stdout.split()[-2:]
        here = {**environ, **own, "BENCHMARK_PLAN": plan}
        done = run([python, str(ROOT / "tests" / "benchmarks" / "straight_line.py")], here)
        if f"ran {decides.partition('@')[0]}" not in done.stdout:
            sys.exit(f"{stack}: {decides} did not run:\n{done.stdout[-2000:]}")

    with ThreadPoolExecutor(len(STACKS)) as threads:
        _, seconds = timed(lambda: list(threads.map(side, STACKS)))
    shutil.rmtree(work / "floor")
    return seconds


def measure_cells(work: Path, environ: dict[str, str]) -> list[Measured]:
    """A gate with nothing stored, between two floors, and one with everything stored."""
    command = [sys.executable, "-m", "finetune_compat", "gate", "--from", BEFORE, "--to", AFTER, "--out", str(work)]
    earlier = measure_floor(work, environ)
    told, certain, whole = followed(command, environ)
    floor = (earlier + (later := measure_floor(work, environ))) / 2
    _, stored = timed(lambda: run(command, environ, codes=(2,)))
    ratio = certain / floor
    what = f"floor: 2 environments, 2 imports, the deciding cell ({earlier:.1f} before, {later:.1f} after the gate)"
    return [
        Measured(what, floor, "", met=True),
        Measured("the word of the baselines", told, "under 2 s", told < 2),
        Measured(
            f"BLOCK is certain, nothing stored ({ratio:.2f} of the floor)", certain, "1.5 of the floor", ratio < 1.5
        ),
        Measured("the whole answer with a safe release, nothing stored", whole, "90 s", whole < 90),
        Measured("the whole answer, everything stored", stored, "under 2 s", stored < 2),
    ]


def followed(command: Sequence[str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Seconds until the baselines' word, until BLOCK is certain, and until the end."""
    begin = time.perf_counter()
    moments: dict[str, float] = {}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            for words in ("BLOCK by the baseline", "BLOCK is certain"):
                if line.startswith(words):
                    moments.setdefault(words, time.perf_counter() - begin)
    return moments["BLOCK by the baseline"], moments["BLOCK is certain"], time.perf_counter() - begin


def measure_script(work: Path, environ: dict[str, str]) -> list[Measured]:
    """A gate of a script beside the script on both sides. Their environments exist."""
    script = work / "train.py"
    script.write_text(SCRIPT)
    plans = ([sys.executable, "-c", PLAN, stack, "none"] for stack in STACKS)
    pythons = [run(plan, {**environ, "COMPAT_OUT": str(work / "plans")}).stdout.split()[-2] for plan in plans]
    given = ["--from", BEFORE, "--to", AFTER, "--flow", str(script), "--candidates", "0", "--out", str(work)]
    command = [sys.executable, "-m", "finetune_compat", "gate", *given]

    def alone() -> None:
        for python in pythons:
            run([python, str(script)], environ, cwd=work)

    def imported() -> None:
        for python in pythons:
            run([python, "-c", LIBRARIES], environ)

    imported()  # compiles
    (_, earlier), (_, imports) = timed(alone), timed(imported)
    _, gate = timed(lambda: run(command, environ, cwd=work, codes=(0, 1)))
    _, later = timed(alone)
    ratio = gate / ((earlier + later) / 2 + imports)
    what = f"a gate of a script ({ratio:.2f} of the script on both sides and two imports)"
    return [Measured(what, gate, "under 1.3", ratio < 1.3)]


def run(
    command: Sequence[str], environ: dict[str, str], *, cwd: Path | None = None, codes: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """The result of a command that ends with one of `codes`."""
    done = subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work`, and its seconds."""
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
