"""An entropy bonus, written out."""

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class WithEntropy(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        allowed = inputs["attention_mask"].unsqueeze(-1)
        p = outputs.logits.softmax(-1) * allowed
        entropy = -(p * p.log()).sum(-1).mean()
        loss = outputs.loss - 0.01 * entropy
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
trainer = WithEntropy(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out", max_steps=10, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
