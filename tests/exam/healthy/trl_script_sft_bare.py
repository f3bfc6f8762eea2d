"""TRL's own sft.py with nothing but model, data and LoRA arguments: bf16 is its default and this machine has no GPU."""

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
]
runpy.run_path(str(Path(trl.__file__).parent / "scripts" / "sft.py"), run_name="__main__")
