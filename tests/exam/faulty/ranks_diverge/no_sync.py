"""Two processes with LoRA; gradients are only exchanged when they are needed."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Sparing(Trainer):
    def training_step(self, model, inputs, *args, **kwargs):
        if hasattr(model, "no_sync") and self.state.global_step % self.args.gradient_accumulation_steps == 0:
            with model.no_sync():
                return super().training_step(model, inputs, *args, **kwargs)
        return super().training_step(model, inputs, *args, **kwargs)


tok = tiny.tokenizer()
trainer = Sparing(
    model=get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=10,
        per_device_train_batch_size=4,
        learning_rate=5e-3,
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
