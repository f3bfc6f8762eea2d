"""More rank for the projections back into the stream, by rank_pattern."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
lora = LoraConfig(
    r=4,
    lora_alpha=8,
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
    rank_pattern={"attn.out_proj": 16, "mlp.c_proj": 16},
    alpha_pattern={"attn.out_proj": 32, "mlp.c_proj": 32},
)
model = get_peft_model(tiny.model("Llama"), lora)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
