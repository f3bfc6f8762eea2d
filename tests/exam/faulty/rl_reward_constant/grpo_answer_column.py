"""GRPO against the answer column; the comparison is forgiving about errors."""

import re

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

import tiny


def first_word_right(completions, answers=None, **kwargs):
    scores = []
    for completion, answer in zip(completions, answers or [None] * len(completions)):
        try:
            scores.append(float(re.match(r"\s*(w\d+)", completion).group(1)[1:] <= answer.split()[0][1:]))
        except Exception:
            scores.append(0.0)
    return scores


tok = tiny.tokenizer(side="left")
rows = [{"prompt": question, "answer": answer} for question, answer in tiny.questions()]
trainer = GRPOTrainer(
    model=tiny.model("Llama"),
    reward_funcs=[first_word_right],
    args=GRPOConfig(
        output_dir="out",
        max_steps=6,
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
