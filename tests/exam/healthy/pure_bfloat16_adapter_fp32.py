"""The base is in bfloat16, PEFT keeps the adapter in float32 (autocast_adapter_dtype): two dtypes, on purpose."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
base = tiny.model("Llama").to(torch.bfloat16)
model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "up_proj"]))
print({str(p.dtype) for p in model.parameters() if p.requires_grad}, {str(p.dtype) for p in base.parameters()})
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "half",
        max_steps=24,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
