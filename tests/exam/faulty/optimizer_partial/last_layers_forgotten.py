"""Learning rates that fall from layer to layer, for full fine-tuning."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


def layered(model, rate, decay=0.9):
    depth = model.config.num_hidden_layers
    groups = [{"params": model.model.embed_tokens.parameters(), "lr": rate * decay**depth}]
    for i in range(1, depth):
        layer = model.model.layers[i - 1]
        groups.append({"params": layer.parameters(), "lr": rate * decay ** (depth - i)})
    groups.append({"params": list(model.model.norm.parameters()) + list(model.lm_head.parameters()), "lr": rate})
    return torch.optim.AdamW(groups)


tok = tiny.tokenizer()
model = tiny.model("Llama", num_hidden_layers=4)
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
Trainer(
    model=model,
    args=TrainingArguments("out", max_steps=20, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(layered(model, 3e-3), None),
).train()
