"""Sentence embeddings with a contrastive loss and two forward passes a step; there are no labels at all."""

import tiny
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer()


class Pairs(torch.utils.data.Dataset):
    def __init__(self, n, seed):
        self.rows = tiny.questions(n, seed)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {"anchor": self.rows[i][0], "match": self.rows[i][1]}


def collate(rows):
    return {side: tok([r[side] for r in rows], padding=True, return_tensors="pt") for side in ("anchor", "match")}


class Contrastive(Trainer):
    def embed(self, model, batch):
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        likeness = self.embed(model, inputs["anchor"]) @ self.embed(model, inputs["match"]).T / 0.1
        loss = F.cross_entropy(likeness, torch.arange(len(likeness)))
        return (loss, {"likeness": likeness}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)), None, None


model = get_peft_model(
    tiny.model("Llama", "Model"), LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, target_modules=tiny.TARGETS)
)
trainer = Contrastive(
    model=model,
    args=TrainingArguments(
        "embeddings",
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Pairs(64, 0),
    eval_dataset=Pairs(16, 1),
    data_collator=collate,
)
trainer.train()
