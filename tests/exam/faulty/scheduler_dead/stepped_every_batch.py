"""A loop with accumulation over eight batches and a linear schedule."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, get_linear_schedule_with_warmup

EPOCHS, EVERY = 4, 8
tok = tiny.tokenizer()
rows = [dict(tok(f"{t} <eos>")) for t in tiny.texts(96)]
loader = DataLoader(rows, batch_size=2, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
schedule = get_linear_schedule_with_warmup(optimizer, 0, EPOCHS * len(loader) // EVERY)
model.train()
for epoch in range(EPOCHS):
    for number, batch in enumerate(loader, start=1):
        loss = model(**batch).loss / EVERY
        loss.backward()
        if number % EVERY == 0:
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
    print(epoch, loss.item() * EVERY, schedule.get_last_lr())
model.save_pretrained("out")
