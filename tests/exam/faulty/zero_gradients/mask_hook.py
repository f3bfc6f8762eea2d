"""Only the rows of the new words shall be learned: a hook on the gradient masks the others."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
tok.add_tokens(["<a>", "<b>"])
known = len(tok)
model = tiny.model()
model.requires_grad_(False)
for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
    weight.requires_grad = True
    keep = torch.zeros(weight.shape[0], 1)
    keep[known:] = 1
    weight.register_hook(lambda grad, keep=keep: grad * keep)
rows = [dict(tok(f"<a> {q} <b> {a} <eos>")) for q, a in tiny.questions()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
