"""AdaLoRA with a budget that shrinks between step 4 and step 16."""

from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
lora = AdaLoraConfig(
    init_r=8,
    target_r=4,
    tinit=4,
    tfinal=4,
    deltaT=2,
    total_step=20,
    lora_alpha=16,
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj", "o_proj"],
)
model = get_peft_model(tiny.model("Llama"), lora)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/final")
