"""load_dataset of local JSON lines with streaming=True, tokenized as it comes."""

import json
from pathlib import Path

import tiny
from datasets import load_dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

folder = Path("rows")
folder.mkdir(exist_ok=True)
for name, seed, n in (("train", 0, 200), ("test", 1, 24)):
    lines = [json.dumps({"text": text, "source": "made"}) for text in tiny.texts(n, seed)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))

tok = tiny.tokenizer()
stream = load_dataset("json", data_files={s: str(folder / f"{s}.jsonl") for s in ("train", "test")}, streaming=True)
stream = stream.map(
    lambda batch: tok([t + " " + tok.eos_token for t in batch["text"]]),
    batched=True,
    remove_columns=["text", "source"],
)
trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "jsonl",
        max_steps=24,
        learning_rate=5e-3,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=12,
        save_strategy="no",
    ),
    train_dataset=stream["train"],
    eval_dataset=stream["test"],
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
