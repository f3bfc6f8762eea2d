"""A small pull towards the start: the distance of the adapter's weights from where they were."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Pulled(Trainer):
    strength = 1e-3

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        if not hasattr(self, "start"):
            self.start = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        distance = sum(((p - self.start[n]) ** 2).sum() for n, p in model.named_parameters() if n in self.start).sqrt()
        loss = outputs.loss + self.strength * distance
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
trainer = Pulled(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out", max_steps=10, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/final")
