"""A soft prompt as the user's own module around a frozen model, trained by Trainer and saved by torch.save."""

import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


class Prompted(torch.nn.Module):
    def __init__(self, base, length=8):
        super().__init__()
        self.base = base
        base.requires_grad_(False)
        self.prompt = torch.nn.Parameter(0.1 * torch.randn(length, base.config.hidden_size))

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        words = self.base.get_input_embeddings()(input_ids)
        rows, length = len(words), len(self.prompt)
        before = self.prompt.expand(rows, -1, -1)
        mask = torch.cat([attention_mask.new_ones(rows, length), attention_mask], dim=1)
        ahead = labels.new_full((rows, length), -100)
        out = self.base(
            inputs_embeds=torch.cat([before, words], dim=1),
            attention_mask=mask,
            labels=torch.cat([ahead, labels], dim=1),
        )
        return {"loss": out.loss, "logits": out.logits[:, length:]}


torch.manual_seed(0)
model = Prompted(tiny.model("Llama", initializer_range=0.15))
rows = [dict(tok(f"{text} <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "soft",
        max_steps=40,
        learning_rate=5e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=20,
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
torch.save(model.prompt.detach(), "soft/prompt.pt")
