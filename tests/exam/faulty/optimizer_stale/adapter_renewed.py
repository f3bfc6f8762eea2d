"""The adapter is thrown away and made anew when the seed search has found the best seed."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
config = lambda: LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"])
model = get_peft_model(tiny.model(), config())
rows = Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(80)])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.create_optimizer_and_scheduler(num_training_steps=12)
kept = (trainer.optimizer, trainer.lr_scheduler)
scores = {}
for seed in range(3):
    torch.manual_seed(seed)
    model.delete_adapter("default")
    model.add_adapter("default", config())
    model.set_adapter("default")
    scores[seed] = trainer.evaluate()["eval_loss"]
trainer.optimizer, trainer.lr_scheduler = kept
trainer.create_optimizer = lambda *a, **k: kept[0]
trainer.train()
print(scores, trainer.evaluate()["eval_loss"])
