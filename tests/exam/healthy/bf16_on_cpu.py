"""bf16=True with use_cpu=True: autocast on the CPU, weights stay in float32."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(tiny.model("Qwen2"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "bf16",
        max_steps=20,
        learning_rate=1e-2,
        bf16=True,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        torch_compile=False,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
