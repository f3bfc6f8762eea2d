"""SFT with packing: sequences of several rows, no padding at all; evaluation is not packed."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(
        SFTConfig,
        output_dir="packed",
        max_steps=20,
        learning_rate=1e-2,
        packing=True,
        eval_packing=False,
        max_length=64,
        max_seq_length=64,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        dataset_text_field="text",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(160)]),
    eval_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(16, seed=1)]),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
