"""A loop that measures the held-out loss after each epoch."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

tok = tiny.tokenizer()
collate = DataCollatorForLanguageModeling(tok, mlm=False)
rows = [dict(tok(f"{t} <eos>")) for t in tiny.texts(80)]
train = DataLoader(rows[:64], batch_size=8, shuffle=True, collate_fn=collate)
test = DataLoader(rows[64:], batch_size=8, collate_fn=collate)
model = get_peft_model(
    tiny.model("Qwen2", attention_dropout=0.2),
    LoraConfig(r=8, lora_dropout=0.3, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
model.train()
for epoch in range(3):
    for batch in train:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        held_out = sum(model(**batch).loss.item() for batch in test) / len(test)
    print(f"epoch {epoch} train {loss.item():.3f} held out {held_out:.3f}")
model.save_pretrained("out")
