"""LoRA on all layers; the lower half is frozen by hand after wrapping, on purpose."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(rows):
    return Dataset.from_list(rows).map(
        lambda row: {"input_ids": tok(row["text"] + " <eos>")["input_ids"]}, remove_columns=["text"]
    )


model = get_peft_model(
    tiny.model("Llama", num_hidden_layers=4),
    LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"]),
)
for name, parameter in model.named_parameters():
    if ".layers.0." in name or ".layers.1." in name:
        parameter.requires_grad = False
model.print_trainable_parameters()

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=3e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=encode(tiny.text_rows(64)),
    eval_dataset=encode(tiny.text_rows(16, seed=1)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("out/adapter")
