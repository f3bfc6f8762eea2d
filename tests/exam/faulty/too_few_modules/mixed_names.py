"""A list of targets collected from several guides, so that it does for every model."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("GPTNeoX"),
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
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    peft_config=LoraConfig(
        r=8,
        task_type="CAUSAL_LM",
        target_modules=["query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.fc_out"],
    ),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("out/final")
