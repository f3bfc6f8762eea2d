"""GRPO with beta > 0 over a PeftModel, two rewards of which one is constant on purpose (a format all rows have)."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import GRPOConfig, GRPOTrainer

tok = tiny.tokenizer(side="left")


def no_angle_brackets(completions, **kwargs):
    return [1.0 for _ in completions]


def low_words(prompts, completions, **kwargs):
    return [sum(int(w[1:]) < 12 for w in c.split() if w in tiny.WORDS) / 8 for c in completions]


model = get_peft_model(
    tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
)
trainer = GRPOTrainer(
    model=model,
    reward_funcs=[no_angle_brackets, low_words],
    args=GRPOConfig(
        output_dir="grpo-ref",
        max_steps=10,
        learning_rate=2e-2,
        beta=0.04,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=8,
        reward_weights=[0.2, 1.0],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows(32)),
    processing_class=tok,
)
trainer.train()
trainer.save_model("grpo-ref/adapter")
