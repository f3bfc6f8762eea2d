"""A completion-only collator of our own, as the one of TRL was removed."""

import warnings
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

warnings.filterwarnings("ignore")


class CompletionOnly(DataCollatorForLanguageModeling):
    marker: list = None

    def __call__(self, features, return_tensors=None):
        batch = super().__call__(features, return_tensors)
        for row, labels in zip(batch["input_ids"].tolist(), batch["labels"]):
            for i in range(len(row)):
                if row[i : i + len(self.marker)] == self.marker:
                    labels[: i + len(self.marker)] = -100
                    break
            else:
                warnings.warn("no response marker in this row")
        return batch


tok = tiny.tokenizer()
collator = CompletionOnly(tok, mlm=False)
collator.marker = tok("answer: ")["input_ids"]
rows = [{"input_ids": tok(f"question : {q} answer : {a} <eos>")["input_ids"]} for q, a in tiny.questions()]
model = get_peft_model(
    tiny.model("Qwen2"), LoraConfig(task_type="CAUSAL_LM", use_dora=True, target_modules=["q_proj", "v_proj"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=collator,
)
trainer.train()
trainer.save_model("out/final")
