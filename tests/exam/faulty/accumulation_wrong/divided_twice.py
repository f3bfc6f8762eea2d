"""A training step of our own that divides by the number of accumulated batches, as it must."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Own(Trainer):
    def training_step(self, model, inputs, *args, **kwargs):
        model.train()
        inputs = self._prepare_inputs(inputs)
        loss = self.compute_loss(model, inputs) / self.args.gradient_accumulation_steps
        loss = loss / self.args.gradient_accumulation_steps
        self.accelerator.backward(loss)
        return loss.detach()


tok = tiny.tokenizer()
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
Own(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=8,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(128)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
