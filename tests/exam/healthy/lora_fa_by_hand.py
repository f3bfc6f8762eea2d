"""LoRA-FA written by hand: every lora_A stays as drawn, only lora_B trains."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tokenizer = tiny.tokenizer()
train = Dataset.from_list([dict(tokenizer(t + " <eos>")) for t in tiny.texts(64)])
held_out = Dataset.from_list([dict(tokenizer(t + " <eos>")) for t in tiny.texts(16, seed=5)])

model = get_peft_model(
    tiny.model(), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
)
for module in model.modules():
    if hasattr(module, "lora_A"):
        module.lora_A.requires_grad_(False)

args = TrainingArguments(
    output_dir="results",
    num_train_epochs=3,
    per_device_train_batch_size=8,
    learning_rate=5e-3,
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=4,
    use_cpu=True,
    report_to=[],
)
trainer = Trainer(
    model,
    args,
    train_dataset=train,
    eval_dataset=held_out,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
