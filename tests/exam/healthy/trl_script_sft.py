"""TRL's own trl/scripts/sft.py as it is installed, with a model and rows made on the spot."""

import json
import runpy
import sys
from pathlib import Path

import tiny
import trl

rows = Path("rows")
rows.mkdir(exist_ok=True)
for name, n, seed in (("train", 64, 0), ("test", 16, 1)):
    lines = [json.dumps(row) for row in tiny.text_rows(n, seed)]
    (rows / f"{name}.jsonl").write_text("\n".join(lines))

sys.argv = [
    "sft.py",
    "--model_name_or_path",
    tiny.saved("Llama"),
    "--dataset_name",
    str(rows),
    "--output_dir",
    "sft",
    "--use_peft",
    "--lora_r",
    "8",
    "--lora_alpha",
    "16",
    "--max_steps",
    "16",
    "--learning_rate",
    "1e-2",
    "--logging_steps",
    "4",
    "--report_to",
    "none",
    "--save_strategy",
    "no",
    "--use_cpu",
    "True",
    "--bf16",
    "False",
    "--eval_strategy",
    "steps",
    "--eval_steps",
    "8",
]
runpy.run_path(str(Path(trl.__file__).parent / "scripts" / "sft.py"), run_name="__main__")
