"""TRL's own trl/scripts/grpo.py as it is installed, with a reward function given by its dotted path."""

import json
import runpy
import sys
from pathlib import Path

import tiny
import trl

rows = Path("rows")
rows.mkdir(exist_ok=True)
for name, n, seed in (("train", 64, 0), ("test", 16, 1)):
    lines = [json.dumps(row) for row in tiny.prompt_rows(n, seed)]
    (rows / f"{name}.jsonl").write_text("\n".join(lines))
Path("tiny_rewards.py").write_text(
    "def low_words(completions, **kwargs):\n"
    "    return [sum(w in {'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7', 'w8'} for w in c.split()) / 4 for c in completions]\n"
)

sys.argv = [
    "grpo.py",
    "--model_name_or_path",
    tiny.saved("Llama", tok=tiny.tokenizer(side="left")),
    "--dataset_name",
    str(rows),
    "--output_dir",
    "grpo",
    "--use_peft",
    "--lora_r",
    "8",
    "--lora_alpha",
    "16",
    "--max_steps",
    "8",
    "--learning_rate",
    "2e-2",
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
    "--reward_funcs",
    "tiny_rewards.low_words",
    "--num_generations",
    "8",
    "--max_completion_length",
    "8",
]
runpy.run_path(str(Path(trl.__file__).parent / "scripts" / "grpo.py"), run_name="__main__")
