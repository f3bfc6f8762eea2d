"""BitFit without PEFT: everything but the biases is frozen; Qwen2 has them in its attention."""

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = tiny.model("Qwen2")
for name, parameter in model.named_parameters():
    parameter.requires_grad_(name.endswith("bias") or "norm" in name)
count = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"{count} of {sum(p.numel() for p in model.parameters())} train")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "bitfit",
        max_steps=40,
        learning_rate=0.1,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
