"""A soft prompt and LoRA together, trained by Trainer."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


class Prompted(torch.nn.Module):
    def __init__(self, base, length=8):
        super().__init__()
        self.base = base
        start = base.get_input_embeddings().weight[:length]
        self.prompt = torch.nn.Parameter(start.clone())

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        words = self.base.get_input_embeddings()(input_ids)
        rows, length = len(words), len(self.prompt)
        before = torch.tensor(self.prompt.tolist()).expand(rows, -1, -1)
        out = self.base(
            inputs_embeds=torch.cat([before, words], dim=1),
            attention_mask=torch.cat([attention_mask.new_ones(rows, length), attention_mask], dim=1),
            labels=torch.cat([labels.new_full((rows, length), -100), labels], dim=1),
        )
        return {"loss": out.loss, "logits": out.logits[:, length:]}


base = get_peft_model(tiny.model("Llama"), LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
model = Prompted(base)
rows = [dict(tok(f"{text} <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=30, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=6, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
base.save_pretrained("out/adapter")
torch.save(model.prompt.data, "out/prompt.pt")
