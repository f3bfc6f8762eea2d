"""BitFit beside LoRA: the attention biases train as well. (LoraConfig(bias="all") was too many.)"""

import json
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, HfArgumentParser, Trainer, TrainingArguments

import tiny

settings = {
    "output_dir": "out",
    "max_steps": 30,
    "learning_rate": 2e-2,
    "use_cpu": True,
    "report_to": "none",
    "logging_steps": 5,
    "save_strategy": "no",
}
Path("settings.json").write_text(json.dumps(settings))
(args,) = HfArgumentParser(TrainingArguments).parse_json_file("settings.json")

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Qwen2"), LoraConfig(r=4, task_type="CAUSAL_LM", bias="none", target_modules=["q_proj", "v_proj"])
)
for module in model.modules():
    if getattr(module, "bias", None) is not None and not isinstance(module.bias, bool):
        module.bias.requires_grad = True
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/adapter")
