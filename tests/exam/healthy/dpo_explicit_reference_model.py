"""DPO of a whole model against an explicit, frozen copy of it."""

import tiny
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

where = tiny.saved("Qwen2")
model = AutoModelForCausalLM.from_pretrained(where)
reference = AutoModelForCausalLM.from_pretrained(where)
tok = tiny.tokenizer()
trainer = DPOTrainer(
    model,
    reference,
    args=DPOConfig(
        output_dir="dpo-full",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        loss_type="ipo",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
        max_length=32,
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    **tiny.reader(DPOTrainer, tok),
)
trainer.train()
trainer.save_model("dpo-full/final")
