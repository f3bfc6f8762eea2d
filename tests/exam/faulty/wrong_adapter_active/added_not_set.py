"""A new adapter for the task on top of a model with an older one."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
lora = dict(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
model = get_peft_model(tiny.model(), LoraConfig(**lora), adapter_name="general")
model.add_adapter("task", LoraConfig(**lora))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=16, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/final", selected_adapters=["task"])
