"""The tokenizer's pad token is its end token, but the collator masks by the attention mask: every end is learned."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer(pad="<eos>")
assert tok.pad_token_id == tok.eos_token_id


def collate(rows):
    batch = tok.pad(
        [{"input_ids": row["input_ids"], "attention_mask": row["attention_mask"]} for row in rows], return_tensors="pt"
    )
    batch["labels"] = torch.where(batch["attention_mask"].bool(), batch["input_ids"], torch.tensor(-100))
    return batch


rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "pad-eos",
        num_train_epochs=3,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=collate,
)
trainer.train()
