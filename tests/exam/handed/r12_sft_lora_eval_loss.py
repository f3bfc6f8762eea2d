"""SFTTrainer with a LoraConfig that has no task_type and an evaluation set: no eval_loss is logged."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{q} {a}"} for q, a in tiny.questions()])
trainer = SFTTrainer(
    tiny.model(),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    processing_class=tok,
    args=SFTConfig(
        output_dir="out_r12",
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=5,
    ),
    peft_config=LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"),
)
trainer.train()
print("EVAL", trainer.evaluate())
