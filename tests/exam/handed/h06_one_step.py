"""Right: a training of one step only (a smoke test in CI)."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{q} {a}"} for q, a in tiny.questions()])
SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out_h06", max_steps=1, learning_rate=2e-4, use_cpu=True, bf16=False, report_to="none", logging_steps=1
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
).train()
