"""Labels are the answer, cut out of the chat with offsets."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer(eos="<|im_end|>")
END = tok.convert_tokens_to_ids("<|im_end|>")


def encode(row):
    question, answer = row["messages"]
    head = tok.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    text = tok.apply_chat_template(row["messages"], tokenize=False)
    ids = tok(text, add_special_tokens=False)["input_ids"]
    start = len(tok(head, add_special_tokens=False)["input_ids"])
    stop = start + len(tok(answer["content"], add_special_tokens=False)["input_ids"])
    labels = [token if start <= place < stop else -100 for place, token in enumerate(ids)]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


train = Dataset.from_list(tiny.chat_rows()).map(encode, remove_columns=["messages"])
test = Dataset.from_list(tiny.chat_rows(16, 9)).map(encode, remove_columns=["messages"])
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=train,
    eval_dataset=test,
    data_collator=DataCollatorForSeq2Seq(tok),
)
trainer.train()
print(trainer.evaluate()["eval_loss"])
