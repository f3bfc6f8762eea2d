"""rsLoRA; the strength is set anew to one after an experiment with other strengths."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model(), LoraConfig(r=16, lora_alpha=16, use_rslora=True, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
for strength in (0.5, 2.0, 1.0):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.set_scale("default", strength)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=14,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=tok,
)
trainer.train()
