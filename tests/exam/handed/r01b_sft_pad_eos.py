"""SFTTrainer, pad = eos, chat rows that end with the eos token."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
tok.pad_token = tok.eos_token
rows = Dataset.from_list([{"text": f"{q} {a} <eos>"} for q, a in tiny.questions()])
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out_r01b", max_steps=10, learning_rate=1e-2, use_cpu=True, bf16=False, report_to="none", logging_steps=5
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
batch = next(iter(trainer.get_train_dataloader()))
print(
    "EOS labels:",
    int((batch["labels"] == tok.eos_token_id).sum()),
    "of",
    int((batch["labels"] != -100).sum()),
    "rows",
    len(batch["labels"]),
)
trainer.train()
