"""The adapter is merged for the evaluation before training, which is faster."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = tiny.model()
model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
model.merge_adapter()
print(trainer.evaluate())
trainer.train()
print(trainer.evaluate())
