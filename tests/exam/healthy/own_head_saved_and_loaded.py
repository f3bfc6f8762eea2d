"""A head of one's own is named in modules_to_save, saved with the adapter, and loaded over a fresh base."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = tiny.model("Qwen2", "Model")
        torch.manual_seed(1)
        self.verdict = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, input_ids, attention_mask, labels=None):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        logits = self.verdict((hidden * mask).sum(1) / mask.sum(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def rows(n, seed):
    return Dataset.from_list([{**tok(r["text"]), "labels": r["label"]} for r in tiny.labelled_rows(n, seed)])


model = get_peft_model(Scorer(), LoraConfig(r=8, target_modules=tiny.TARGETS, modules_to_save=["verdict"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(32, 1),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
model.save_pretrained("out/adapter")

again = PeftModel.from_pretrained(Scorer(), "out/adapter").eval()
batch = tok(["good w1 w2 w3"], return_tensors="pt")
with torch.no_grad():
    difference = (again(**batch)["logits"] - model.eval()(**batch)["logits"]).abs().max()
assert difference < 1e-5, difference
