"""Two processes; the loss is computed by a Trainer of our own."""

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = self.model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


tok = tiny.tokenizer()
trainer = Own(
    model=tiny.model(),
    args=TrainingArguments(
        "out",
        max_steps=10,
        per_device_train_batch_size=4,
        learning_rate=2e-3,
        ddp_backend="gloo",
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(96)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/final")
