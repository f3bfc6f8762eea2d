"""ORPO has no reference model at all; it is under trl.experimental in later releases."""

import tiny
from datasets import Dataset
from peft import LoraConfig

try:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer
except ImportError:
    from trl import ORPOConfig, ORPOTrainer

tok = tiny.tokenizer()
trainer = ORPOTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(
        ORPOConfig,
        output_dir="orpo",
        max_steps=16,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        beta=0.1,
        max_length=32,
        max_prompt_length=16,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(ORPOTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
