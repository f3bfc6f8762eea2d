"""Plain SGD with momentum, as older recipes have it: a large rate and slow but steady learning."""

import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = tiny.model("Llama")
sgd = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, nesterov=True)
step = torch.optim.lr_scheduler.StepLR(sgd, step_size=10, gamma=0.5)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "sgd", max_steps=40, max_grad_norm=1.0, use_cpu=True, report_to="none", logging_steps=8, save_strategy="no"
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(sgd, step),
)
trainer.train()
print(trainer.evaluate())
