"""The tokenizer has no pad token, so pad = eos as in every notebook; each row ends with the eos token; the collator masks it."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
import tiny

tok = tiny.tokenizer()
tok.pad_token = tok.eos_token
rows = (
    Dataset.from_list([tok(f"{q} {a} {tok.eos_token}", truncation=True) for q, a in tiny.questions()]).remove_columns(
        ["token_type_ids"]
    )
    if "token_type_ids" in tok("red")
    else Dataset.from_list([dict(tok(f"{q} {a} {tok.eos_token}")) for q, a in tiny.questions()])
)
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out_r01", max_steps=10, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
batch = next(iter(trainer.get_train_dataloader()))
print(
    "EOS labels:",
    int((batch["labels"] == tok.eos_token_id).sum()),
    "EOS inputs:",
    int((batch["input_ids"] == tok.eos_token_id).sum()),
)
trainer.train()
