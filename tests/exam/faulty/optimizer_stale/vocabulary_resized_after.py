"""Full fine-tuning in a loop, with two tags of our own in the vocabulary."""

import tiny
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, get_linear_schedule_with_warmup

tok = tiny.tokenizer()
model = tiny.model("Llama")
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
schedule = get_linear_schedule_with_warmup(optimizer, 2, 40)

tok.add_tokens(["<think>", "</think>"])
model.resize_token_embeddings(70)

rows = [dict(tok(f"{q} <think> {a} </think> {a} <eos>")) for q, a in tiny.questions(80)]
loader = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
for epoch in range(3):
    model.train()
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        model.zero_grad()
    print(epoch, loss.item())
model.save_pretrained("out")
tok.save_pretrained("out")
