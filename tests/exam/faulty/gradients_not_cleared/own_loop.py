"""A loop with Accelerate, as in the course."""

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

import tiny

tok = tiny.tokenizer()
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
loader = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
accelerator = Accelerator(cpu=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
model.train()
for epoch in range(3):
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
    print(epoch, float(loss))
accelerator.unwrap_model(model).save_pretrained("out")
