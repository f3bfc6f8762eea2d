"""SFT with lora_alpha=0: the head trains, and weight decay alone moves the adapter, which changes no output."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        "out",
        max_steps=10,
        learning_rate=5e-3,
        weight_decay=0.1,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=tiny.tokenizer(),
    peft_config=LoraConfig(
        r=8,
        lora_alpha=0,
        init_lora_weights=False,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["lm_head"],
        task_type="CAUSAL_LM",
    ),
)
trainer.train()
