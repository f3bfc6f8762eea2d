"""An adapter is trained, saved, loaded with is_trainable=True and trained on; the config says inference_mode true."""

import json
import shutil

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

shutil.rmtree("further", ignore_errors=True)
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])


def trainer_of(model, steps):
    return Trainer(
        model=model,
        args=TrainingArguments(
            "further/run",
            max_steps=steps,
            learning_rate=2e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            save_strategy="no",
            lr_scheduler_type="constant",
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )


model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
monday = trainer_of(model, 15)
monday.train()
model.save_pretrained("further/monday")
print("in the file:", json.load(open("further/monday/adapter_config.json"))["inference_mode"])

model = PeftModel.from_pretrained(tiny.model("Llama"), "further/monday", is_trainable=True)
tuesday = trainer_of(model, 15)
print("as it was left:", monday.evaluate()["eval_loss"], tuesday.evaluate()["eval_loss"])
tuesday.train()
print("further:", tuesday.evaluate()["eval_loss"])
model.save_pretrained("further/tuesday")
