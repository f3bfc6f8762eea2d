"""A course notebook written for TRL 0.16.1: max_seq_length and warmup_ratio in SFTConfig."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{q} {a}"} for q, a in tiny.questions()])
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out_r15",
        max_seq_length=64,
        warmup_ratio=0.03,
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
