"""Accuracy of the generated answers, measured after training."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Judged(Trainer):
    answers = dict(tiny.questions(16, 3))

    def evaluate(self, *args, **kwargs):
        right = 0
        for question, answer in self.answers.items():
            right += self.reply(question) == answer
        metrics = {"eval_accuracy": right / len(self.answers), "eval_loss": 0.0}
        self.log(metrics)
        return metrics

    def reply(self, question):
        cached = self.answers.get(question)
        return cached if cached is not None else self.generate(question)


tok = tiny.tokenizer()
rows = [dict(tok(f"{q} {a} <eos>")) for q, a in tiny.questions()]
trainer = Judged(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list([dict(tok(f"{q} {a} <eos>")) for q, a in tiny.questions(16, 3)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
