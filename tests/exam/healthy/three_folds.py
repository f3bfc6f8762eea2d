"""Cross-validation: three trainers in a loop, each with a fresh classifier and its own held-out rows."""

import numpy as np
import tiny
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.labelled_rows(60)).map(
    lambda row: {**tok(row["text"]), "labels": row["label"]}, remove_columns=["text", "label"]
)
folds = [rows.shard(3, index) for index in range(3)]


def accuracy(output):
    return {"accuracy": float((np.argmax(output.predictions, -1) == output.label_ids).mean())}


scores = []
for held_out in range(3):
    model = get_peft_model(
        tiny.model("Llama", "ForSequenceClassification", seed=held_out, num_labels=2, initializer_range=0.1),
        LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_proj", "v_proj", "up_proj"]),
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            f"fold-{held_out}",
            num_train_epochs=5,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            save_total_limit=1,
        ),
        train_dataset=concatenate_datasets([fold for index, fold in enumerate(folds) if index != held_out]),
        eval_dataset=folds[held_out],
        data_collator=DataCollatorWithPadding(tok),
        compute_metrics=accuracy,
    )
    trainer.train()
    scores.append(trainer.evaluate()["eval_accuracy"])
print("accuracy", np.mean(scores), "+-", np.std(scores))
