"""The score of the base model first, then SFT of the adapter."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules="all-linear")
)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=tok,
)
model.disable_adapter_layers()
print("base", trainer.evaluate()["eval_loss"])
trainer.train()
print("trained", trainer.evaluate()["eval_loss"])
