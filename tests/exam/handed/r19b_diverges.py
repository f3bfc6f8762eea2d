"""Loss explodes (learning rate far too high, no clipping): worse than a uniform guess, and the run 'succeeds'."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"input_ids": tok(f"{q} {a} <eos>")["input_ids"]} for q, a in tiny.questions()])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "lm_head"]))
Trainer(
    model=model,
    args=TrainingArguments(
        "out_r19b",
        max_steps=10,
        learning_rate=2.0,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        logging_steps=1,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
