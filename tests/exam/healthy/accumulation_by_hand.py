"""A loop that accumulates by hand, with autocast and a GradScaler that is off on a CPU."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

EVERY = 4
tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.text_rows(96)).map(lambda row: tok(row["text"] + " <eos>"), remove_columns="text")
held = rows.select(range(80, 96))
collate = DataCollatorForLanguageModeling(tok, mlm=False)
train = DataLoader(rows.select(range(80)), batch_size=2, shuffle=True, collate_fn=collate)
test = DataLoader(held, batch_size=8, collate_fn=collate)

model = get_peft_model(tiny.model("Qwen3"), LoraConfig(r=8, lora_dropout=0.1, target_modules=tiny.TARGETS))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
scaler = torch.amp.GradScaler("cpu", enabled=False)
for epoch in range(4):
    model.train()
    for number, batch in enumerate(train, start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss / EVERY
        scaler.scale(loss).backward()
        if number % EVERY == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    model.eval()
    with torch.inference_mode():
        print(epoch, sum(model(**batch).loss.item() for batch in test) / len(test))
model.save_pretrained("by_hand")
