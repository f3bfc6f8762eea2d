"""Every eight steps a copy for the serving team is written: adapters switched to inference for the time of writing."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class Export(TrainerCallback):
    def __init__(self, every, folder):
        self.every, self.folder = every, folder

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0:
            self.write(model, f"{self.folder}/{state.global_step}")

    def write(self, model, folder):
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model.save_pretrained(folder)
        model.train()


tok = tiny.tokenizer()
model = tiny.model("Llama")
model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Export(8, "out/export")],
)
trainer.train()
print(trainer.evaluate())
