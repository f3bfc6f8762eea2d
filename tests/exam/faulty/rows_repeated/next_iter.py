"""Two hundred steps are too many for one evening; forty will do."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

tok = tiny.tokenizer()
rows = [dict(tok(f"{t} <eos>")) for t in tiny.texts(128)]
loader = DataLoader(rows, batch_size=8, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
model = get_peft_model(tiny.model("Qwen2"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
model.train()
for step in range(40):
    batch = next(iter(loader))
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 10 == 9:
        print(step + 1, round(loss.item(), 4))
model.save_pretrained("out")
