"""An IterableDataset without a length, made by a generator and limited by max_steps."""

import tiny
from datasets import IterableDataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


def endless(seed):
    while True:
        for text in tiny.texts(32, seed=seed):
            yield {"input_ids": tok(text + " <eos>")["input_ids"]}
        seed += 1


model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "stream",
        max_steps=24,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=IterableDataset.from_generator(endless, gen_kwargs={"seed": 0}).shuffle(seed=1, buffer_size=32),
    eval_dataset=IterableDataset.from_generator(endless, gen_kwargs={"seed": 100}).take(16),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
