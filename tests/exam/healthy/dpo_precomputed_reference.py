"""DPO with the reference's log probabilities computed before training, so no reference is needed in the loop."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

tok = tiny.tokenizer()
trainer = DPOTrainer(
    model=tiny.model("Qwen2"),
    ref_model=None,
    args=DPOConfig(
        output_dir="dpo-early",
        max_steps=16,
        per_device_train_batch_size=8,
        learning_rate=2e-2,
        precompute_ref_log_probs=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        max_length=32,
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"]),
    **tiny.reader(DPOTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
