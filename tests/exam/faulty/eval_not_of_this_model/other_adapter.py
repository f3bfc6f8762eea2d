"""A new adapter is trained beside the one in production; each evaluation is meant to compare with it."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Comparing(Trainer):
    def evaluate(self, *args, **kwargs):
        self.model.set_adapter("production")
        metrics = super().evaluate(*args, **kwargs)
        self.model.set_adapter("candidate")
        return metrics


def rows(n, seed):
    return Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(n, seed)])


settings = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
model = get_peft_model(tiny.model("Llama"), settings, adapter_name="production")
model.add_adapter("candidate", settings)
model.set_adapter("candidate")
trainer = Comparing(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(24, 5),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/adapters")
