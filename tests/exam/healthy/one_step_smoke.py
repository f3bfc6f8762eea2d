"""One step only, as a smoke test in CI does it: lora_A cannot move while lora_B is 0."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{text} <eos>"} for text in tiny.texts(32)])
trainer = SFTTrainer(
    model=tiny.model("Qwen2"),
    args=SFTConfig(
        output_dir="smoke",
        max_steps=1,
        learning_rate=2e-4,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
assert trainer.state.global_step == 1
