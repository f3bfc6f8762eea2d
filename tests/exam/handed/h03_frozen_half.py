"""Right: adapters of the lower layer are frozen on purpose after wrapping."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"input_ids": tok(f"{q} {a} <eos>")["input_ids"]} for q, a in tiny.questions()])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
for name, p in model.named_parameters():
    if ".layers.0." in name:
        p.requires_grad_(False)
Trainer(
    model=model,
    args=TrainingArguments(
        "out_h03", max_steps=10, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
