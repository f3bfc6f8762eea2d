"""Started with torchrun on two processes: gloo on one machine, LoRA under DistributedDataParallel."""

import os

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "two-processes",
        max_steps=16,
        learning_rate=4e-2,
        per_device_train_batch_size=4,
        use_cpu=True,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
score = trainer.evaluate()
if trainer.is_world_process_zero():
    print(os.environ.get("WORLD_SIZE", "1"), "processes", score)
    model.save_pretrained("two-processes/adapter")
