"""Users' scripts, watched on this stack: nox -s "compat-3.11(trl='0.22')" -- --pipelines"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finetune_compat.cell.script import trained
from packaging.version import Version
from transformers import set_seed

TRL, TRANSFORMERS = Version(version("trl")), Version(version("transformers"))

ADAPTER = 2 * (8 * (64 + 64) * 2 + 8 * (64 + 32) * 2 + 8 * (64 + 128) * 3)
"""r * (in + out) over q and o, k and v, and the three layers of the MLP, in two layers."""

WHOLE = (
    ("quantization_config=quantization, ", ""),
    # For a model that is not quantized prepare_model_for_kbit_training leaves inputs without a gradient.
    ("gradient_checkpointing=True", "gradient_checkpointing=False"),
)
"""Transformers below 4.54 refuse 4 bits on a CPU: there the model is loaded in full precision."""

FOUR_BIT = Version("4.54") <= TRANSFORMERS
PLAIN: tuple[tuple[str, str], ...] = () if FOUR_BIT else WHOLE

SAVED = """
from peft import AutoPeftModelForCausalLM

trainer.save_model("final")
AutoTokenizer.from_pretrained(place).save_pretrained("final")
AutoTokenizer.from_pretrained("final")
merged = AutoPeftModelForCausalLM.from_pretrained("final").merge_and_unload()
merged.save_pretrained("out/whole")
AutoModelForCausalLM.from_pretrained("out/whole")
"""

MINE = """
class Mine(SFTTrainer):
    def __init__(self, **given):
        super().__init__(**given)


trainer = Mine("""


def frozen_by_trl() -> bool:
    """The window of trl#3926."""
    return Version("0.20.0") <= TRL < Version("0.23.1")


def test_the_users_script_is_judged_as_it_is(watch: Any, script: Any, model: Path) -> None:
    """In the window of trl#3926 nothing is trainable at the trainer, and the line that froze is named; elsewhere it
    trains. The script does not import this project.
    """
    seen = watch(script(*PLAIN), str(model))
    if FOUR_BIT and frozen_by_trl():
        assert seen.code == 1
        assert (seen.trainable("peft"), seen.trainable("trainer")) == (ADAPTER, 0)
        (freeze,) = seen.run["seen"]["freezes"]
        files = [frame["file"] for frame in freeze["frames"]]
        assert files[0] == "train.py"
        assert files[1].startswith("trl/")
        assert files[-1] == "peft/utils/other.py"
        training = seen.run["seen"]["training"]
        assert f"{training['eval_before']:.6f}" == f"{training['eval_after']:.6f}"
    else:
        assert (seen.code, seen.verdicts[0]["outcome"]) == (0, "pass")
        assert (seen.trainable("peft"), seen.trainable("trainer")) == (ADAPTER, ADAPTER)
        training = seen.run["seen"]["training"]
        assert training["eval_after"] < training["eval_before"]
        assert training["optimizer"]["parameters"] == ADAPTER
    assert len(training["grad_norm"]) == 10
    emulates = None if torch.cuda.is_available() or not FOUR_BIT else "cuda"
    assert seen.run["seen"]["device"]["emulates"] == emulates


def test_existing_files_are_not_overwritten(watch: Any, script: Any, model: Path, tmp_path: Path) -> None:
    """Neither checkpoints in output_dir nor files that the script saves at its end replace an earlier training."""
    (tmp_path / "out" / "final").mkdir(parents=True)
    (tmp_path / "out" / "final" / "adapter.txt").write_text("weeks of training")
    seen = watch(script(*PLAIN), str(model))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["final", "adapter.txt"]
    left = "'out/final' is not empty and was not changed: files saved to it were deleted afterwards"
    assert left in seen.pipeline["changed"]


WRITES_ITSELF = """
import torch
from safetensors.torch import load_file, save_file

torch.save({"w": torch.ones(2)}, "mine.pt")
assert torch.load("mine.pt")["w"].sum() == 2
save_file({"w": torch.ones(2)}, "mine.safetensors")
assert load_file("mine.safetensors")["w"].sum() == 2
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), "mine.ts")
AutoTokenizer.from_pretrained(place).backend_tokenizer.save("mine.json")
__import__("pandas").DataFrame({"a": [1]}).to_parquet("mine.parquet")
datasets = __import__("datasets")
datasets.Dataset.from_dict({"a": [1]}).to_json("mine.jsonl")
with open("log", "a") as log:
    log.write("more")
"""
"""Writes through C++ and Rust, and through Python."""


def test_what_the_script_writes_itself_replaces_nothing(watch: Any, script: Any, model: Path, tmp_path: Path) -> None:
    """Each library writes where its user says, reads back what it wrote, and leaves the earlier file."""
    names = ("mine.pt", "mine.safetensors", "mine.ts", "mine.json", "mine.parquet", "mine.jsonl", "log")
    for name in names:
        (tmp_path / name).write_text("weeks of training")
    seen = watch(script(*PLAIN, ('trainer.save_model("out/final")', WRITES_ITSELF)), str(model))
    assert (seen.pipeline["error"], seen.pipeline["status"]) == (None, 0)
    assert {(tmp_path / name).read_text() for name in names} == {"weeks of training"}
    assert any("that existed before are as they were" in sentence for sentence in seen.pipeline["changed"])


def test_files_of_one_side_of_a_gate_are_not_visible_to_the_other(
    watch: Any, script: Any, model: Path, tmp_path: Path
) -> None:
    """While the script runs, saved files can be read back and more can be saved next to them."""
    given = script(
        *PLAIN,
        ("import sys\n", 'import os\nimport sys\nif os.path.isdir("final"):\n    sys.exit(4)\n'),
        ('trainer.save_model("out/final")', SAVED),
    )
    seen = [watch(given, str(model), for_a_gate=True) for _ in range(2)]
    assert [(one.code, one.pipeline["error"], one.pipeline["status"]) for one in seen] == [
        (int(FOUR_BIT and frozen_by_trl()), None, 0)
    ] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
    for place in ("final", "out/whole"):
        assert f"files saved to {place!r} were deleted after the script ended" in seen[1].pipeline["changed"]


def test_a_trainer_of_the_users_own_is_watched_to_where_the_script_ends(watch: Any, script: Any, model: Path) -> None:
    """The example is a subclass with its own constructor, and an exit in the middle of the script."""
    seen = watch(
        script(
            *PLAIN,
            (
                "\ntrainer = SFTTrainer(",
                MINE,
            ),
            ("trainer.save_model", "sys.exit(7)\ntrainer.save_model"),
        ),
        str(model),
    )
    assert (seen.run["trainer"], seen.pipeline["status"]) == ("Mine", 7)
    assert seen.code == (1 if FOUR_BIT and frozen_by_trl() else 3)
    assert len(seen.run["seen"]["training"]["grad_norm"]) == 10


def test_the_record_survives_os_exit(watch: Any, script: Any, model: Path) -> None:
    """No code runs after os._exit: the record is on disk already. Untrained is not healthy."""
    seen = watch(script(*PLAIN, ("trainer.train()", "import os; os._exit(0)")), str(model))
    stages = [taken["name"] for taken in seen.run["seen"]["stages"] if taken["by"] == "flow"]
    assert stages[-2:] == ["peft", "trainer"]
    assert seen.run["seen"]["training"] is None
    assert seen.code == (1 if FOUR_BIT and frozen_by_trl() else 3)


def test_an_error_of_the_script_is_reported(watch: Any, script: Any, model: Path) -> None:
    """The message has its place in the script; the training before it is judged."""
    seen = watch(script(*PLAIN, ("trainer.save_model", 'raise RuntimeError("mine")\ntrainer.save_model')), str(model))
    assert (seen.pipeline["error"]["type"], seen.pipeline["error"]["message"]) == ("RuntimeError", "mine")
    assert seen.pipeline["error"]["frames"][-1]["file"] == "train.py"
    assert seen.run["seen"]["training"] is not None
    assert seen.code == (1 if FOUR_BIT and frozen_by_trl() else 3)


def test_the_script_has_its_token_and_the_record_does_not(
    watch: Any, script: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of arguments and environment are removed from warnings, errors and lines of code."""
    monkeypatch.setenv("HF_TOKEN", "Zq7xW2vKp9env")
    told = "f\"{sys.argv[3]} and {os.environ['HF_TOKEN']} are wrong\""
    fails = f"import os, warnings\nwarnings.warn({told})\ndef login(token): raise ValueError({told})\n"
    fails += 'login(token="hf_Zq7xW2vKp9Zq7xW2vKp9")\n'
    changed = script(*PLAIN, ("trainer.save_model", f"{fails}trainer.save_model"))
    seen = watch(changed, str(model), "--hub_token", "Zq7xW2vKp9arg")
    assert seen.pipeline["arguments"][1:] == ["--hub_token", "REDACTED"]
    assert seen.pipeline["error"]["message"] == "REDACTED and REDACTED are wrong"
    assert seen.pipeline["error"]["frames"][0]["code"] == 'login(token="REDACTED")'
    assert "Zq7xW2vKp9" not in json.dumps([seen.pipeline, seen.verdicts])


def test_evaluating_beside_the_script_leaves_its_random_numbers() -> None:
    """This holds for all generators, also on a GPU."""

    def draw() -> tuple[float, ...]:
        gpu = (float(torch.rand((), device="cuda")),) if torch.cuda.is_available() else ()
        shared = float(np.random.random())  # noqa: NPY002 - the generator that scripts and libraries share
        return random.random(), shared, float(torch.rand(())), *gpu

    def drawn(*, evaluated: bool) -> tuple[float, ...]:
        set_seed(0)
        if evaluated:
            trainer = SimpleNamespace(
                callback_handler=SimpleNamespace(callbacks=[]), state=SimpleNamespace(log_history=[])
            )
            with trained._without_traces(trainer):
                draw()
        return draw()

    assert drawn(evaluated=True) == drawn(evaluated=False)


def test_two_trainers_are_two_runs(watch: Any, script: Any, model: Path, tmp_path: Path) -> None:
    """Each has the stages of its own model."""
    text = (tmp_path / script(*PLAIN)).read_text(encoding="utf-8")
    again = text[text.index("model = Auto") : text.index("trainer.save_model")]
    seen = watch(script(*PLAIN, ("trainer.save_model", f"{again}\ntrainer.save_model")), str(model))
    assert [run["seen"]["flow"] for run in seen.pipeline["runs"]] == ["train", "train#2"]
    assert len(seen.verdicts) == 2
    assert len({tuple(taken["name"] for taken in run["seen"]["stages"]) for run in seen.pipeline["runs"]}) == 1


def test_requests_for_a_gpu_are_redirected_with_a_note(watch: Any, script: Any, model: Path) -> None:
    """On a CPU these are a device map, a half-precision option, and an optimizer."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    seen = watch(
        script(
            *PLAIN,
            ('device_map="auto"', "device_map={'': 0}"),
            ("bf16=False", 'bf16=False, fp16=True, optim="paged_adamw_8bit"'),
        ),
        str(model),
    )
    changed = "\n".join(seen.pipeline["changed"])
    assert "device_map={'': 0} was taken as 'cpu': this machine has no GPU" in changed
    assert "fp16=True was taken as False: float16 training needs a GPU" in changed
    assert "optim='paged_adamw_8bit' was taken as 'adamw_torch': that optimizer needs a GPU" in changed
    assert seen.run["seen"]["training"] is not None


def test_a_launched_script_is_watched(watch: Any, script: Any, model: Path, launcher: str) -> None:
    """`accelerate launch` starts the script in a child process."""
    seen = watch(launcher, "launch", "--cpu", "--num_processes", "1", script(*PLAIN), str(model))
    assert seen.pipeline["script"] == "train"
    assert len(seen.run["seen"]["training"]["grad_norm"]) == 10


def test_a_signal_ends_a_launcher_with_what_it_started(
    pytestconfig: pytest.Config, script: Any, model: Path, tmp_path: Path, launcher: str
) -> None:
    """The script ends too, and the links to its saved files are removed."""
    final = tmp_path / "out" / "final"
    final.mkdir(parents=True)
    (final / "adapter.txt").write_text("weeks of training")
    save = 'trainer.save_model("out/final")'
    tells = 'import os, time\nopen("pid.part", "w").write(str(os.getpid()))\nos.rename("pid.part", "pid")'
    given = script(*PLAIN, (save, f"{save}\n{tells}\ntime.sleep(600)"))
    words = ["-m", "finetune_compat", "watch", "--python", sys.executable, "--"]
    launched = [launcher, "launch", "--cpu", "--num_processes", "1", given, str(model)]
    host = str(pytestconfig.getoption("--host-python"))
    with subprocess.Popen([host, *words, *launched], cwd=tmp_path) as process:
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            time.sleep(0.1)
        assert (final / "adapter_config.json").is_symlink()
        process.terminate()
        assert process.wait(60) == 143
    left = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    assert not left.exists() or not left.read_bytes()  # a zombie has none
    assert [path.name for path in final.iterdir()] == ["adapter.txt"]


def test_a_notebook_is_run_cell_by_cell(watch: Any, script: Any, model: Path, tmp_path: Path) -> None:
    """Magics are skipped, with a note."""
    script(*PLAIN)
    head, _, tail = (tmp_path / "train.py").read_text(encoding="utf-8").partition("\nmodel = Auto")
    cells = [
        {"cell_type": "markdown", "source": ["# Training"]},
        {"cell_type": "code", "source": ["!pip install trl\n", *head.splitlines(keepends=True)]},
        {"cell_type": "code", "source": f"model = Auto{tail}"},
    ]
    (tmp_path / "train.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    seen = watch("train.ipynb", str(model))
    assert any(line.startswith("cell 2: left out: !pip install trl") for line in seen.pipeline["unseen"])
    assert len(seen.run["seen"]["training"]["grad_norm"]) == 10


def test_the_three_calls_of_the_documentation(watch: Any, model: Path, tmp_path: Path) -> None:
    """The example is a loop without a Trainer, as in docs/your-script.md."""
    text = (Path(__file__).parents[2] / "docs" / "your-script.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "flow.py").write_text(code, encoding="utf-8")
    seen = watch("flow.py", str(model))
    assert (seen.code, seen.run["trainer"]) == (0, None), seen.verdicts
    training = seen.run["seen"]["training"]
    assert len(training["grad_norm"]) == 10
    assert seen.trainable("trainer") == training["optimizer"]["parameters"] == 2 * (8 * (64 + 64) + 8 * (64 + 32))
    assert training["eval_after"] < training["eval_before"]


def test_three_calls_that_train_nothing_are_reported(watch: Any, model: Path, tmp_path: Path) -> None:
    """The optimizer holds the wrong parameters."""
    text = (Path(__file__).parents[2] / "docs" / "your-script.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    wrong = code.replace("[p for p in model.parameters() if p.requires_grad]", "[torch.nn.Parameter(torch.ones(2))]")
    (tmp_path / "flow.py").write_text(wrong, encoding="utf-8")
    seen = watch("flow.py", str(model))
    assert seen.code == 1
    assert [one["code"] for one in seen.verdicts[0]["opinions"] if one["result"] == "fail"] == ["O301"]


@pytest.mark.skipif(Version("0.22") > TRL, reason="TRL 0.22 brought trl.scripts.sft with data sets from a directory")
def test_trls_own_script(watch: Any, model: Path, tmp_path: Path) -> None:
    """The script is TRL's as installed, with a local model and data set."""
    import trl.scripts.sft

    data = tmp_path / "data"
    data.mkdir()
    rows = [{"text": " ".join(f"w{(a + b * i) % 20}" for i in range(16))} for a in range(20) for b in range(1, 5)]
    for split, few in (("train", rows[16:]), ("test", rows[:16])):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in few), encoding="utf-8")
    seen = watch(
        trl.scripts.sft.__file__,
        *("--model_name_or_path", str(model), "--dataset_name", str(data), "--output_dir", str(tmp_path / "out")),
        *("--use_peft", "--lora_r", "8", "--lora_target_modules", "q_proj", "v_proj", "--learning_rate", "1e-2"),
        *("--eval_strategy", "epoch", "--num_train_epochs", "5", "--report_to", "none"),
    )
    assert seen.code == 0, (seen.verdicts, seen.pipeline["error"])
    redirected = [sentence for sentence in seen.pipeline["changed"] if sentence.startswith("bf16")]
    assert len(redirected) == (not torch.cuda.is_available()), "bf16 is TRL's default"
    assert seen.trainable("trainer") == 2 * (8 * (64 + 64) + 8 * (64 + 32))


def test_a_loss_that_ends_far_above_its_start_is_reported(watch: Any, model: Path, tmp_path: Path) -> None:
    """The learning rate is far too high without clipping: the run succeeds, and the model is worse than a guess."""
    shutil.copy(Path(__file__).with_name("diverges.py"), tmp_path)
    seen = watch("diverges.py", str(model))
    assert (seen.code, seen.verdicts[0]["outcome"]) == (1, "fail")
    assert seen.verdicts[0]["reason"].startswith("E808 eval loss diverges: ")


def test_a_single_step_is_no_fault(watch: Any, script: Any, model: Path) -> None:
    """In a smoke test of one step lora_A cannot change while lora_B is zero."""
    # In full precision, because quantized adapters may be frozen.
    seen = watch(script(*WHOLE, ("num_train_epochs=20", "max_steps=1")), str(model))
    training = seen.run["seen"]["training"]
    assert (training["steps"], training["classes"]["lora_A"]["unchanged"]) == (1, 14)
    assert (seen.code, seen.verdicts[0]["reason"]) == (
        0,
        "trained weights change; too few steps to show whether lora_A changes, ask for more",
    )


@pytest.mark.parametrize("kind", ["same", "letters"])
@pytest.mark.skipif(Version("0.16") > TRL, reason="GRPOTrainer of TRL before 0.16 was not tried")
def test_rewards_that_are_all_equal_are_never_called_training(
    watch: Any, model: Path, tmp_path: Path, kind: str
) -> None:
    """No bit changes then. If rewards differ, weights change, at a loss that may be 0."""
    shutil.copy(Path(__file__).with_name("reward.py"), tmp_path)
    seen = watch("reward.py", str(model), kind)
    run, (verdict,) = seen.run, seen.verdicts
    assert run["rewarded"]
    if kind == "same":
        assert (run["rewards_alike"], run["seen"]["training"]["subject_delta"]) == (True, 0.0)
        assert (seen.code, verdict["outcome"]) == (1, "fail")
        assert verdict["reason"].startswith("G409 the reward is 0 for every completion in all 10 steps")
    else:
        assert run["rewards_alike"] is False
        assert (seen.code, verdict["outcome"]) == (0, "pass"), verdict["reason"]
        assert "parameters train" in verdict["reason"]


@pytest.mark.skipif(FOUR_BIT, reason="a quantized model is prepared for it")
def test_a_loud_failure_is_reported_as_it_is(watch: Any, script: Any, model: Path) -> None:
    """Checkpointing without gradients of the inputs raises in the first backward pass, watched or not."""
    seen = watch(script(WHOLE[0]), str(model))
    assert seen.code == 1
    assert seen.verdicts[0]["reason"].startswith("F001 RuntimeError at training: element 0 of tensors does not require")
    assert len(seen.verdicts) == 1
