"""Two new special tokens for reasoning, LoRA on attention."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
model = tiny.model(vocab_size=len(tok))
tok.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
model.resize_token_embeddings(len(tok))
rows = Dataset.from_list([{"text": f"{q} <think> {q} </think> {a}"} for q, a in tiny.questions()])
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=14,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=rows,
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]),
)
trainer.train()
trainer.save_model("out/final")
tok.save_pretrained("out/final")
