"""LoRA with the biases of the adapted layers, for a model whose attention has biases."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
model = get_peft_model(
    tiny.model("Qwen2"),
    LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", bias="lora_only", target_modules=["q_proj", "k_proj"]),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/adapter")
