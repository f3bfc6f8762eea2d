"""VeRA: random projections shared by all layers and never trained; only two vectors a module train."""

import tiny
from datasets import Dataset
from peft import VeraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
# VeRA shares its projections, so the targets have one shape.
model = get_peft_model(
    tiny.model("Llama", num_key_value_heads=4),
    VeraConfig(task_type="CAUSAL_LM", r=32, target_modules=["q_proj", "v_proj"], projection_prng_key=7),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "vera", max_steps=40, learning_rate=0.1, use_cpu=True, report_to="none", logging_steps=8, save_strategy="no"
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.evaluate()
model.save_pretrained("vera/adapter")
