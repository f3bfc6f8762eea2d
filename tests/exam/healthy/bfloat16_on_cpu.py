"""bf16=True and LoRA: the weights stay in float32, and linear layers compute in bfloat16. Saved, merged and saved again."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "mixed",
        max_steps=20,
        learning_rate=5e-3,
        bf16=True,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end=True,
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("mixed/adapter")
model.merge_and_unload().save_pretrained("mixed/merged")
