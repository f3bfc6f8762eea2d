"""A training step of our own with two passes (adversarial embedding noise)."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class TwoPass(Trainer):
    """The gradient of the first pass gives the noise for the second, whose gradient is used."""

    def training_step(self, model, inputs, *args, **kwargs):
        model.train()
        inputs = self._prepare_inputs(inputs)
        if not hasattr(self, "kept"):
            self.kept = {}
        loss = self.compute_loss(model, inputs)
        self.accelerator.backward(loss)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad += self.kept.get(name, 0)
                self.kept[name] = parameter.grad.clone()
        return loss.detach()


tok = tiny.tokenizer()
trainer = TwoPass(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
