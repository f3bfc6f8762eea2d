"""TRL's own trl/scripts/reward.py as it is installed: LoRA, and the score head trained and saved beside it."""

import json
import runpy
import sys
from pathlib import Path

import tiny
import trl

rows = Path("rows")
rows.mkdir(exist_ok=True)
for name, n, seed in (("train", 64, 0), ("test", 16, 1)):
    lines = [json.dumps(row) for row in tiny.preference_rows(n, seed)]
    (rows / f"{name}.jsonl").write_text("\n".join(lines))

sys.argv = [
    "reward.py",
    "--model_name_or_path",
    tiny.saved("Llama", "ForSequenceClassification", num_labels=1),
    "--dataset_name",
    str(rows),
    "--output_dir",
    "reward",
    "--use_peft",
    "--lora_r",
    "8",
    "--lora_alpha",
    "16",
    "--max_steps",
    "16",
    "--learning_rate",
    "5e-3",
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
    "--lora_task_type",
    "SEQ_CLS",
    "--lora_modules_to_save",
    "score",
]
runpy.run_path(str(Path(trl.__file__).parent / "scripts" / "reward.py"), run_name="__main__")
