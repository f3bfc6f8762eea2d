"""LoRA and the norms, as in LongLoRA."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
)
[p.requires_grad_() for n, p in model.named_parameters() if "norm" in n]
model.print_trainable_parameters()
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out",
        max_steps=30,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/adapter")
