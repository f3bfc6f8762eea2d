"""Chat rows rendered with a template that separates the turns by their roles alone; only answers are learned."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

import tiny

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


class Chats:
    def __init__(self, tok):
        self.tok = tok

    def row(self, messages):
        render = lambda part, ask: self.tok(
            self.tok.apply_chat_template(part, tokenize=False, add_generation_prompt=ask)
        )
        head, ids = render(messages[:-1], True)["input_ids"], render(messages, False)["input_ids"]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [-100] * len(head) + ids[len(head) :]}

    def data(self, n, seed):
        return Dataset.from_list([self.row(r["messages"]) for r in tiny.chat_rows(n, seed)])


tok = tiny.tokenizer(template=TEMPLATE)
chats = Chats(tok)
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=16, use_rslora=True, task_type="CAUSAL_LM", target_modules="all-linear")
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=chats.data(64, 0),
    eval_dataset=chats.data(16, 1),
    data_collator=DataCollatorForSeq2Seq(tok),
)
trainer.train()
print(trainer.evaluate())
