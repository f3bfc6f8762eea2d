"""LoRA and a fully trained output layer on a model whose embeddings are tied; merged and saved for serving."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Qwen2", tie_word_embeddings=True),
    args=SFTConfig(
        output_dir="out",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    peft_config=LoraConfig(
        r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS, modules_to_save=["lm_head"]
    ),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
merged = trainer.model.merge_and_unload()
merged.save_pretrained("out/merged")
tok.save_pretrained("out/merged")
