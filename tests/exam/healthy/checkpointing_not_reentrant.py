"""Gradient checkpointing without reentry: nothing needs a hook on the inputs; dropout is drawn again the same way."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Mistral", attention_dropout=0.1),
    LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.2, target_modules=["q_proj", "v_proj", "gate_proj"]),
)
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "plain-checkpoints",
        num_train_epochs=3,
        learning_rate=4e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
