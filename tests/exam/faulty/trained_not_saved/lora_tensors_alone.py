"""A classifier with LoRA; only the LoRA weights are written, to keep the file small."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def rows(n, seed):
    return Dataset.from_list([{**tok(r["text"]), "labels": r["label"]} for r in tiny.labelled_rows(n, seed)])


model = get_peft_model(
    tiny.model("Llama", "ForSequenceClassification", num_labels=2),
    LoraConfig(r=8, lora_alpha=16, task_type="SEQ_CLS", target_modules=tiny.TARGETS),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(32, 1),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
lora = {name: weights for name, weights in model.state_dict().items() if "lora_" in name}
save_file(lora, "out/lora.safetensors")
