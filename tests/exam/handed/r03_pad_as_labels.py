"""padding='max_length', labels = input_ids: nine of ten labels are the pad token, which is the eos token."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, default_data_collator
import tiny

tok = tiny.tokenizer()
tok.pad_token = tok.eos_token


def encode(q, a):
    enc = tok(f"{q} {a}", padding="max_length", max_length=128, truncation=True)
    return {"input_ids": enc["input_ids"], "attention_mask": enc["attention_mask"], "labels": list(enc["input_ids"])}


rows = Dataset.from_list([encode(q, a) for q, a in tiny.questions()])
model = get_peft_model(
    tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out_r03", max_steps=10, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=1
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    data_collator=default_data_collator,
)
trainer.train()
b = default_data_collator([rows[0], rows[1]])
print(
    "labels on attention_mask 0:",
    int(((b["attention_mask"] == 0) & (b["labels"] != -100)).sum()),
    "of",
    int((b["labels"] != -100).sum()),
)
trainer.save_model("out_r03/final")
