"""A short loop with gradient clipping."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

tok = tiny.tokenizer()
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
rows = [dict(tok(f"{t} <eos>")) for t in tiny.texts()]
loader = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
model.train()
for epoch in range(3):
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.zero_grad()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
model.save_pretrained("out")
