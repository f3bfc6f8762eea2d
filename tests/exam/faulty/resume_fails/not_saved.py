"""Six steps to try it out, then more from the last checkpoint."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
args = dict(learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=2, save_strategy="no")
make = lambda steps: Trainer(
    model=model,
    args=TrainingArguments("out_fresh", max_steps=steps, **args),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
make(6).train()
make(12).train(resume_from_checkpoint=True)
