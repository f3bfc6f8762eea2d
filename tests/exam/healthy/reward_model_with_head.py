"""A reward model: LoRA with the score head in modules_to_save, so that it trains and is in the saved adapter."""

import tiny
from datasets import Dataset
from peft import LoraConfig, TaskType
from safetensors.torch import load_file
from trl import RewardConfig, RewardTrainer

tok = tiny.tokenizer()
trainer = RewardTrainer(
    model=tiny.model("Qwen2", "ForSequenceClassification", num_labels=1),
    args=RewardConfig(
        output_dir="reward",
        max_steps=24,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        max_length=32,
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    peft_config=LoraConfig(task_type=TaskType.SEQ_CLS, r=8, target_modules="all-linear", modules_to_save=["score"]),
    **tiny.reader(RewardTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
trainer.save_model("reward/adapter")
print([name for name in load_file("reward/adapter/adapter_model.safetensors") if "score" in name])
