"""SFT; evaluation runs in a context that switches the dropout of the adapter off."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny


class Quiet(SFTTrainer):
    def evaluate(self, *args, **kwargs):
        with self.accelerator.unwrap_model(self.model).disable_adapter():
            return super().evaluate(*args, **kwargs)


tok = tiny.tokenizer()
trainer = Quiet(
    model=tiny.model(),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    eval_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(16, 1)]),
    peft_config=LoraConfig(r=8, lora_dropout=0.1, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
