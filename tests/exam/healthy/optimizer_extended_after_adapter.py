"""The optimizer is older than the adapter: its group of frozen weights stays, and the adapter's weights are added."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, get_linear_schedule_with_warmup

tok = tiny.tokenizer()
base = tiny.model("Qwen2")
optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2, weight_decay=0.0)
model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
optimizer.add_param_group({"params": [p for p in model.parameters() if p.requires_grad], "lr": 1e-2})
schedule = get_linear_schedule_with_warmup(optimizer, 2, 40)

rows = [dict(tok(text + " <eos>")) for text in tiny.texts(64)]
batches = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
model.train()
for _ in range(5):
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    print(f"loss {loss.item():.3f}")
model.save_pretrained("out/adapter")
