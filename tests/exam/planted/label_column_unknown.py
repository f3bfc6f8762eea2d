"""Plain Trainer with an evaluation set; label_names names a column that no batch has."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model("Llama"), lora),
    args=TrainingArguments(
        "out",
        label_names=["answers"],
        max_steps=10,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
