"""Prompt tuning in a loop of the user's own: eight virtual tokens are all that trains; labels are padded with -100."""

import tiny
import torch
from peft import PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

torch.manual_seed(0)
where = tiny.saved("Llama", initializer_range=0.15)
tok = tiny.tokenizer(side="left")
config = PromptTuningConfig(
    task_type=TaskType.CAUSAL_LM,
    prompt_tuning_init=PromptTuningInit.TEXT,
    num_virtual_tokens=8,
    prompt_tuning_init_text="question : good or bad answer :",
    tokenizer_name_or_path=where,
)


def collate(rows):
    ids, mask, labels = [], [], []
    longest = max(len(tok(f"{q} {a} <eos>")["input_ids"]) for q, a in rows)
    for question, answer in rows:
        asked = tok(question)["input_ids"]
        told = tok(f"{answer} <eos>")["input_ids"]
        fill = longest - len(asked) - len(told)
        ids.append([tok.pad_token_id] * fill + asked + told)
        mask.append([0] * fill + [1] * (len(asked) + len(told)))
        labels.append([-100] * (fill + len(asked)) + told)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def judged(n, seed):
    """(text, verdict): the verdict is one of two words, by the parity of the first number."""
    return [(text, "good" if int(text.split()[0][1:]) % 2 else "bad") for text in tiny.texts(n, seed)]


train = DataLoader(judged(64, 0), batch_size=8, shuffle=True, collate_fn=collate)
test = DataLoader(judged(16, 1), batch_size=8, collate_fn=collate)
model = get_peft_model(tiny.model("Llama", initializer_range=0.15), config)
model.print_trainable_parameters()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
schedule = get_linear_schedule_with_warmup(optimizer, 0, num_training_steps=5 * len(train))
for epoch in range(5):
    model.train()
    total = 0.0
    for batch in train:
        loss = model(**batch).loss
        total += loss.detach().float()
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        held_out = sum(model(**batch).loss for batch in test) / len(test)
    print(f"epoch {epoch}: train {total / len(train):.4f} eval {held_out:.4f}")
model.save_pretrained("prompt")
