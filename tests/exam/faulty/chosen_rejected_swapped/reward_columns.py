"""A reward model; the columns of the training set are renamed first."""

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

import tiny

tok = tiny.tokenizer()
raw = Dataset.from_list(
    [{"prompt": r["prompt"], "response_0": r["chosen"], "response_1": r["rejected"]} for r in tiny.preference_rows()]
)
train = raw.rename_columns({"response_0": "rejected", "response_1": "chosen"})
trainer = RewardTrainer(
    model=tiny.model("Llama", "ForSequenceClassification", num_labels=1),
    args=RewardConfig(
        "out",
        max_length=64,
        max_steps=30,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=train,
    eval_dataset=Dataset.from_list(tiny.preference_rows(24, 5)),
    processing_class=tok,
)
trainer.train()
