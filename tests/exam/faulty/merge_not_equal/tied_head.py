"""LoRA on the head of a model with tied embeddings, merged and saved."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny

base = tiny.saved("Llama", tie_word_embeddings=True)
tok = AutoTokenizer.from_pretrained(base)
model = get_peft_model(
    AutoModelForCausalLM.from_pretrained(base),
    LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "lm_head"]),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.merge_and_unload().save_pretrained("out/merged")
tok.save_pretrained("out/merged")
