"""GRPO: the reward function is always 0 (it looks for a word that the decoded text never has): nothing is learned."""

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer
import tiny

tok = tiny.tokenizer()
tok.padding_side = "left"
rows = Dataset.from_list([{"prompt": q} for q, a in tiny.questions()])


def reward(completions, **kw):
    return [float(c.split().count("sun")) for c in completions]


trainer = GRPOTrainer(
    model=tiny.model(),
    reward_funcs=reward,
    args=GRPOConfig(
        "out_r11b",
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        beta=0.0,
    ),
    train_dataset=rows,
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", use_dora=True, r=8, lora_alpha=16),
)
trainer.train()
