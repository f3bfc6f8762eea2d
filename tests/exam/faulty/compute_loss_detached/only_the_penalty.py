"""Distillation of a teacher's logits plus a small penalty on the adapter's size."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Distil(Trainer):
    def __init__(self, *args, teacher, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.eval()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        with torch.no_grad():
            wanted = self.teacher(**inputs).logits.softmax(-1)
            distance = torch.nn.functional.kl_div(outputs.logits.log_softmax(-1), wanted, reduction="batchmean")
        size = sum(p.square().sum() for p in model.parameters() if p.requires_grad)
        loss = distance + 1e-6 * size
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
trainer = Distil(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    teacher=tiny.model(seed=5, hidden_size=64),
    args=TrainingArguments(
        "out", max_steps=16, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
