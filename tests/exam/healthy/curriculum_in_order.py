"""A curriculum: rows come sorted by length and unshuffled, so the training loss jumps up where longer rows begin."""

import tiny
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)


rows = Dataset.from_list([dict(tok(t + " <eos>")) for t in sorted(tiny.texts(96), key=lambda t: len(t.split()))])
trainer = InOrder(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "curriculum",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(16, seed=3)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
