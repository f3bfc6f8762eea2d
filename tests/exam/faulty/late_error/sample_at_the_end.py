"""SFT, then a sample from the trained model."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out",
        max_steps=14,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
inputs = tok("w1 w2 w3", return_tensors="np")
print(tok.decode(trainer.model.generate(**inputs, max_new_tokens=8)[0]))
trainer.save_model("out/final")
