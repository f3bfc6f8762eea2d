"""The adapter's strength rises over the training, by a callback."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny

STEPS = 16


class Strength(TrainerCallback):
    def on_step_begin(self, args, state, control, model=None, **kwargs):
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.set_scale("default", state.global_step // state.max_steps)


tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=STEPS, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Strength()],
)
trainer.train()
trainer.save_model("out/final")
