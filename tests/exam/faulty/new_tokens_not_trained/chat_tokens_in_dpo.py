"""DPO with chat markers that the base model has never seen."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
model = tiny.model(vocab_size=len(tok))
tok.add_special_tokens({"additional_special_tokens": ["<|human|>", "<|bot|>"]})
model.resize_token_embeddings(len(tok), mean_resizing=False)
rows = [{**r, "prompt": f"<|human|> {r['prompt']} <|bot|>"} for r in tiny.preference_rows()]
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        "out",
        max_steps=12,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
trainer.save_model("out/final")
