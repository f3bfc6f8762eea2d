"""Layer-wise learning rates in a create_optimizer of the user's own; norms and biases have no weight decay."""

import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
DEPTH = 3


def groups(model, rate, decay=0.1, fall=0.7):
    for name, parameter in model.named_parameters():
        depth = next((i for i in range(DEPTH) if f"layers.{i}." in name), 0 if "embed" in name else DEPTH)
        plain = parameter.ndim > 1
        yield {"params": [parameter], "lr": rate * fall ** (DEPTH - depth), "weight_decay": decay if plain else 0.0}


class LayerwiseTrainer(Trainer):
    def create_optimizer(self, *args):
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(list(groups(self.model, self.args.learning_rate)))
        return self.optimizer


rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
trainer = LayerwiseTrainer(
    model=tiny.model("Llama", num_hidden_layers=DEPTH),
    args=TrainingArguments(
        "layerwise",
        num_train_epochs=3,
        learning_rate=5e-3,
        warmup_steps=4,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
