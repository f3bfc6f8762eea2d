"""A first adapter is trained and merged into the base; a second one is put on what came of it and trained."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


def train(model, texts, out):
    rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in texts])
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            out,
            max_steps=20,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            save_strategy="no",
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    return trainer.evaluate()["eval_loss"]


config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=tiny.TARGETS)
model = get_peft_model(tiny.model(), config)
print("first", train(model, tiny.texts(64), "stacked/one"))
model = model.merge_and_unload()
model = get_peft_model(model, config)
print("second", train(model, [f"{a} {q}" for q, a in tiny.questions(64, seed=9)], "stacked/two"))
model = model.merge_and_unload()
model.save_pretrained("stacked/merged")
tok.save_pretrained("stacked/merged")
