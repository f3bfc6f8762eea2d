"""New special tokens are added and the embeddings resized; LoRA on attention only: their rows stay random, untrained."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
tok.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
model = tiny.model(vocab=len(tok) - 2)
model.resize_token_embeddings(len(tok))
rows = Dataset.from_list([{"text": f"{q} <think> {q} </think> {a}"} for q, a in tiny.questions()])
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out_r06", max_steps=10, learning_rate=1e-2, use_cpu=True, bf16=False, report_to="none", logging_steps=5
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
print(
    "new rows trainable:",
    any(p.requires_grad for n, p in trainer.model.named_parameters() if "embed_tokens" in n or "lm_head" in n),
)
trainer.save_model("out_r06/final")
