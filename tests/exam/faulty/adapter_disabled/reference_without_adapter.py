"""A penalty for leaving the base model: its logits come from the same model with the adapter off."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Anchored(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        model.base_model.disable_adapter_layers()
        with torch.no_grad():
            base = model(**inputs).logits
        outputs = model(**inputs)
        penalty = (outputs.logits - base).pow(2).mean()
        loss = outputs.loss + 0.01 * penalty
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
model = tiny.model()
model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
trainer = Anchored(
    model=model,
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
