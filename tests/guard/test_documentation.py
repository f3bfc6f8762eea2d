"""The scripts of docs/guard.md run as printed, in a user's directory, with the printed output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trl
from finetune_compat.cell import data
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import QWEN2
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import Precision, Variant
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

TEXT = (Path(__file__).parents[2] / "docs" / "guard.md").read_text(encoding="utf-8")
SCRIPTS = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
}
MESSAGE, TABLE = re.findall(r"^```text\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.skipif(not hasattr(trl, "SFTConfig"), reason="TRL before 0.9 has no SFTConfig")


@pytest.fixture
def home(setup: Setup, tmp_path: Path) -> Path:
    """A user's directory: the data, and a tiny model under the name in the scripts."""
    here = tmp_path / "Qwen" / "Qwen2-0.5B"
    AutoModelForCausalLM.from_pretrained(setup.model.place).save_pretrained(here)
    _tokenizer().save_pretrained(here)
    data.text_rows(setup.seed)[0].to_json(tmp_path / "train.jsonl")
    (
        tmp_path / "pytest.ini"
    ).touch()  # otherwise pytest reads the checkout's configuration, where every warning is an error
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\n", encoding="utf-8"
    )  # otherwise pytest finds the checkout's settings
    return tmp_path


def _tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token per character, of the same kind as Qwen2's: with a config of Qwen2, Transformers
    5.20 reads any other tokenizer as one without tokens.
    """
    letters = [*"w0123456789", "\u0120"]  # the last is a space, as byte-level tokenizers write it
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|endoftext|>")


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the user's directory."""
    environment = {**os.environ, "HF_HOME": str(home / "cache"), "PYTHONWARNINGS": "always"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)


def test_the_guarded_script_runs_to_its_end(home: Path) -> None:
    """The guard prints nothing."""
    done = run(home, "guarded.py")
    assert done.returncode == 0, done.stderr
    assert "'train_runtime'" in done.stdout
    assert "TrainingGuard" not in done.stderr


def test_the_flagship_script_is_stopped_if_it_would_not_train(home: Path, plan: Plan) -> None:
    """On stacks where the ledger lists the freeze by SFTTrainer, it stops before the first step with the printed
    message. On all others it trains, or ends in another listed error.
    """
    flow, variant = "sft-peft-model", Variant(QWEN2, Precision.INT8, True)
    [cell] = [cell for cell in plan.cells if (cell.flow, cell.variant) == (flow, variant)]
    checks, errors = {entry.check for entry in cell.listed}, {entry.error for entry in cell.listed}
    done = run(home, "flagship.py")
    if not checks:
        assert done.returncode == 0, done.stderr
        assert "TrainingGuard" not in done.stderr
    elif "C104" in checks:
        assert done.returncode == 1
        assert done.stderr.endswith(MESSAGE)
        assert "'loss'" not in done.stdout
    else:
        assert any(error and error.partition(": ")[2] in done.stderr for error in errors), done.stderr


def test_the_test_file_passes_and_prints_the_table(home: Path) -> None:
    """The plugin is named with -p, as in a checkout."""
    done = run(
        home, "-m", "pytest", "-p", "finetune_compat.cell.fixtures", "-p", "no:cacheprovider", "-s", "test_training.py"
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^=+ 2 passed", done.stdout, re.MULTILINE)
    assert TABLE in done.stdout
