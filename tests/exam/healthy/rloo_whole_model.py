"""RLOO of a whole model: loss values are near 0 and go either way; the reward is what rises."""

import tiny
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

tok = tiny.tokenizer(side="left")
wanted = set(tiny.WORDS[:16])


def reward(completions, **kwargs):
    return [float(len(wanted.intersection(text.split()))) for text in completions]


trainer = RLOOTrainer(
    model=tiny.saved("Llama", tok=tok),
    reward_funcs=reward,
    args=RLOOConfig(
        output_dir="rloo",
        max_steps=10,
        learning_rate=2e-3,
        beta=0.01,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows(32)),
    processing_class=tok,
)
trainer.train()
