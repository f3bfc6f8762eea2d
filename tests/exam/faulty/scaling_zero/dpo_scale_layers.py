"""DPO; the adapter is scaled down for the reference and left so."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model(), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
)
for module in model.modules():
    if hasattr(module, "scale_layer"):
        module.scale_layer(0)
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        "out",
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    processing_class=tok,
)
trainer.train()
