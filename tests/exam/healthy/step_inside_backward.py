"""One optimizer a tensor, which steps inside backward() and drops the gradient, as LOMO and layer-wise GaLore do."""

import tiny
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling

model = tiny.model("Qwen2")
tok = tiny.tokenizer()
optimizers = {p: torch.optim.AdamW([p], lr=5e-3) for p in model.parameters() if p.requires_grad}


def step_and_forget(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad(set_to_none=True)


for parameter in optimizers:
    parameter.register_post_accumulate_grad_hook(step_and_forget)

rows = [dict(tok(f"{text} <eos>")) for text in tiny.texts()]
loader = DataLoader(rows, batch_size=8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
model.train()
for epoch in range(3):
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
    print(f"epoch {epoch} {loss.item():.3f}")
model.save_pretrained("stepped")
tok.save_pretrained("stepped")
