"""New tokens; the embeddings are trained beside the adapter by switching their gradients on."""

import argparse

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

parser = argparse.ArgumentParser()
parser.add_argument("--base", default=None)
parser.add_argument("--out", default="out")
options = parser.parse_args()
base = options.base or tiny.saved("Llama")

tok = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base)
tok.add_special_tokens({"additional_special_tokens": ["<tool>", "</tool>"]})
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"]))
for name, parameter in model.named_parameters():
    if "embed_tokens" in name or "lm_head" in name:
        parameter.requires_grad = True
model.print_trainable_parameters()

rows = Dataset.from_list([dict(tok(f"{q} <tool> {a} </tool> <eos>")) for q, a in tiny.questions()])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        options.out,
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model(f"{options.out}/adapter")
tok.save_pretrained(f"{options.out}/adapter")
