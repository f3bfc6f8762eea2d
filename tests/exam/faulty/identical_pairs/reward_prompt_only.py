"""A reward model on tokens made beforehand with a fixed length."""

from datasets import Dataset
from peft import LoraConfig
from trl import RewardConfig, RewardTrainer

import tiny

tok = tiny.tokenizer()


def encode(row):
    chosen = tok(f"question : {row['prompt']} answer : {row['chosen']}", truncation=True, max_length=7)
    rejected = tok(f"question : {row['prompt']} answer : {row['rejected']}", truncation=True, max_length=7)
    return {
        "chosen_input_ids": chosen["input_ids"],
        "rejected_input_ids": rejected["input_ids"],
        "chosen_ids": chosen["input_ids"],
        "rejected_ids": rejected["input_ids"],
        "chosen_attention_mask": chosen["attention_mask"],
        "rejected_attention_mask": rejected["attention_mask"],
        "input_ids_chosen": chosen["input_ids"],
        "input_ids_rejected": rejected["input_ids"],
        "attention_mask_chosen": chosen["attention_mask"],
        "attention_mask_rejected": rejected["attention_mask"],
    }


rows = Dataset.from_list([encode({**r, "prompt": r["prompt"] + " w1 w2"}) for r in tiny.preference_rows()])
trainer = RewardTrainer(
    model=tiny.model(head="ForSequenceClassification", num_labels=1),
    args=RewardConfig(
        "out",
        max_length=64,
        max_steps=10,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=rows,
    peft_config=LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(RewardTrainer, tok),
)
trainer.train()
