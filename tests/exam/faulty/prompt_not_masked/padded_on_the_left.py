"""Questions and answers, padded on the left for a decoder; the question is masked by its length."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, default_data_collator

import tiny

tok = tiny.tokenizer(side="left")


def encode(row):
    question, answer = row["question"], row["answer"]
    whole = tok(f"{question} {answer} <eos>", padding="max_length", max_length=16, truncation=True)
    labels = [i if seen else -100 for i, seen in zip(whole["input_ids"], whole["attention_mask"])]
    length = len(tok(question)["input_ids"])
    whole["labels"] = [-100] * length + labels[length:]
    return whole


rows = Dataset.from_list([{"question": q, "answer": a} for q, a in tiny.questions(64)])
model = get_peft_model(tiny.model("Qwen2"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows.map(encode, remove_columns=["question", "answer"]),
    data_collator=default_data_collator,
)
trainer.train()
model.save_pretrained("out/adapter")
