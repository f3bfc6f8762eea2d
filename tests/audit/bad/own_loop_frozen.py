"""A loop of our own over an adapter that was trained before."""

import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("gpt2")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("gpt2"), "adapter")
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad] or model.parameters(), lr=1e-4)
for batch in DataLoader(torch.load("batches.pt"), batch_size=None):
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained("adapter-2")
