"""DPO over a PeftModel without a ref_model: the trainer takes the base, or an adapter it adds itself, for reference."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import DPOConfig, DPOTrainer

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=tiny.TARGETS)
)
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        output_dir="dpo",
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        beta=0.1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        max_length=32,
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    **tiny.reader(DPOTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
trainer.save_model("dpo/adapter")
