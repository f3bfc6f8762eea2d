"""Fine-tuning in bfloat16. A hunt for NaN had switched autocast off in the model's forward."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, LlamaForCausalLM, Trainer, TrainingArguments

import tiny


class Careful(LlamaForCausalLM):
    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)


tok = tiny.tokenizer()
torch.manual_seed(0)
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=Careful(tiny.config("Llama")),
    args=TrainingArguments(
        "out",
        max_steps=16,
        learning_rate=3e-3,
        bf16=True,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
