"""PiSSA: the adapter starts at the principal components and the base keeps the rest; it is saved as a plain LoRA."""

import os
import shutil

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

OUT = "pissa"
shutil.rmtree(OUT, ignore_errors=True)
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Llama"),
    LoraConfig(init_lora_weights="pissa", r=4, lora_alpha=4, target_modules=tiny.TARGETS, task_type="CAUSAL_LM"),
)
# The start is saved first, so that the difference can be written later. Saving may mark the config, so it is set back.
model.peft_config["default"].init_lora_weights = True
model.save_pretrained(os.path.join(OUT, "start"))
model.peft_config["default"].init_lora_weights = "pissa"
for name, parameter in model.named_parameters():
    if "lora_" in name:
        parameter.requires_grad = True

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        OUT, max_steps=20, learning_rate=2e-2, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(12)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained(os.path.join(OUT, "lora"), path_initial_model_for_weight_conversion=os.path.join(OUT, "start"))
again = PeftModel.from_pretrained(tiny.model("Llama"), os.path.join(OUT, "lora"))
print("rank of what was saved:", again.peft_config["default"].r)
