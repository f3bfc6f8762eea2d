"""Llama-Adapter: learned prompts with a gate that starts at zero, so that nothing but the gate moves at first."""

import tiny
import torch
from peft import AdaptionPromptConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

torch.manual_seed(1)
tok = tiny.tokenizer()
config = AdaptionPromptConfig(adapter_len=6, adapter_layers=2, task_type="CAUSAL_LM")
model = get_peft_model(tiny.model("Llama", initializer_range=0.2, num_key_value_heads=4), config)
collate = DataCollatorForLanguageModeling(tok, mlm=False)
train = DataLoader([dict(tok(f"{t} <eos>")) for t in tiny.texts()], batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
for epoch in range(8):
    losses = []
    for batch in train:
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(epoch, sum(losses) / len(losses))
model.save_pretrained("adaption")
