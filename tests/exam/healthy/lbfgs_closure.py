"""LBFGS calls its closure several times a step: several backward passes, and one step."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling

tok = tiny.tokenizer()
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
batch = DataCollatorForLanguageModeling(tok, mlm=False)([dict(tok(f"{t} <eos>")) for t in tiny.texts(32)])
weights = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.LBFGS(weights, lr=0.5, max_iter=4, history_size=5, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss


for step in range(8):
    loss = optimizer.step(closure)
    print(step, round(float(loss), 4))
model.save_pretrained("lbfgs")
