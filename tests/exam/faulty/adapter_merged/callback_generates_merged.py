"""Generates with merged weights every ten steps."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Generate(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 10:
            model.merge_adapter()
            prompt = tok("w4 w5", return_tensors="pt")
            print(tok.decode(model.generate(**prompt, max_new_tokens=5, do_sample=False)[0]))


model = tiny.model("Llama")
model.enable_input_require_grads()
model = get_peft_model(
    model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=30, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Generate()],
)
trainer.train()
