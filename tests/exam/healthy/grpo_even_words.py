"""GRPO without a reference (beta 0): the reward is the share of even words, and it differs within a group."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

tok = tiny.tokenizer(side="left")
even = set(tiny.WORDS[::2])


def share_of_even_words(completions, **kwargs):
    return [sum(word in even for word in text.split()) / 8 for text in completions]


trainer = GRPOTrainer(
    model=tiny.model("Qwen2"),
    reward_funcs=share_of_even_words,
    args=GRPOConfig(
        output_dir="grpo",
        max_steps=16,
        learning_rate=2e-2,
        beta=0.0,
        per_device_train_batch_size=8,
        num_generations=8,
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
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
print([round(entry["reward"], 3) for entry in trainer.state.log_history if "reward" in entry])
