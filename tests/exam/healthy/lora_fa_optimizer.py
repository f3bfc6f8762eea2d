"""LoRA-FA as PEFT ships it: create_lorafa_optimizer freezes lora_A and projects the gradient of lora_B."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

RANK, ALPHA, STEPS = 8, 16, 30
tok = tiny.tokenizer()
rows = Dataset.from_list([{"input_ids": tok(f"{q} {a} <eos>")["input_ids"]} for q, a in tiny.questions(64)])
split = rows.train_test_split(test_size=0.2, seed=42)

model = get_peft_model(
    tiny.model("Llama"),
    LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", target_modules=tiny.TARGETS),
)
optimizer = create_lorafa_optimizer(model=model, r=RANK, lora_alpha=ALPHA, lr=2e-2, weight_decay=0.01)
scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=3, num_training_steps=STEPS)

Trainer(
    model=model,
    args=TrainingArguments(
        "lorafa",
        max_steps=STEPS,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=split["train"],
    eval_dataset=split["test"],
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, scheduler),
).train()
model.save_pretrained("lorafa")
