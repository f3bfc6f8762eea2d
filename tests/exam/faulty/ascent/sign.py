"""The loss is the mean log-likelihood of the next word."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Likelihood(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        logp = outputs.logits[:, :-1].log_softmax(-1)
        labels = inputs["labels"][:, 1:]
        picked = logp.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        mask = labels != -100
        loss = (picked * mask).sum() / mask.sum()
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
trainer = Likelihood(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
