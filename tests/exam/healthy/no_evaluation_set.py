"""All rows are trained on; there is no evaluation set, and the script says so."""

import logging

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("finetune")


def main():
    tok = tiny.tokenizer()
    rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(96)])
    log.info("no evaluation set: %d rows are all there is", len(rows))
    model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "all-rows",
            num_train_epochs=2,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=3,
            eval_strategy="no",
            save_strategy="epoch",
        ),
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    trainer.save_model("all-rows/final")


if __name__ == "__main__":
    main()
