"""P-tuning of a sequence classifier: an encoder makes the virtual tokens, the new head trains with it."""

import numpy as np
import tiny
from datasets import Dataset
from peft import PromptEncoderConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(rows):
    return Dataset.from_list([{**tok(r["text"]), "labels": r["label"]} for r in rows])


def accuracy(prediction):
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


model = get_peft_model(
    tiny.model("Llama", "ForSequenceClassification", num_labels=2),
    PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=4, encoder_hidden_size=32),
)
model.print_trainable_parameters()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "ptuning",
        num_train_epochs=4,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=encode(tiny.labelled_rows(64)),
    eval_dataset=encode(tiny.labelled_rows(16, seed=1)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=accuracy,
)
trainer.train()
print(trainer.evaluate())
