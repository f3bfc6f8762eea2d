"""Layer-wise training: in each epoch other layers are open (LISA, by our own callback)."""

import random

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class OpenLayers(TrainerCallback):
    """Close all layers and open one of them."""

    def __init__(self, layers):
        self.layers, self.random = layers, random.Random(0)

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        for parameter in model.model.layers.parameters():
            parameter.requires_grad = False
        chosen = self.random.randrange(len(self.layers))
        for name, parameter in model.named_parameters():
            if name.startswith(f"layers.{chosen}."):
                parameter.requires_grad = True


tok = tiny.tokenizer()
model = tiny.model("Llama", num_hidden_layers=4)
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        num_train_epochs=3,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[OpenLayers(model.model.layers)],
)
trainer.train()
