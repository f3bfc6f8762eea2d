"""No Trainer: an Accelerate loop as in Transformers' run_clm_no_trainer.py, with accumulation and clipping."""

import tiny
import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import DataCollatorForLanguageModeling, get_scheduler

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
tok = tiny.tokenizer()
collate = DataCollatorForLanguageModeling(tok, mlm=False)
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
train = DataLoader(rows.select(range(64)), shuffle=True, batch_size=4, collate_fn=collate)
test = DataLoader(rows.select(range(64, 80)), batch_size=8, collate_fn=collate)
model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
schedule = get_scheduler("cosine", optimizer, num_warmup_steps=2, num_training_steps=3 * len(train))
model, optimizer, train, test, schedule = accelerator.prepare(model, optimizer, train, test, schedule)


def held_out():
    model.eval()
    with torch.no_grad():
        losses = [accelerator.gather_for_metrics(model(**batch).loss.repeat(8)) for batch in test]
    return torch.cat(losses).mean().item()


print("before", held_out())
for epoch in range(3):
    model.train()
    for batch in train:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    print("epoch", epoch, held_out())
accelerator.unwrap_model(model).save_pretrained("accelerated", save_function=accelerator.save)
