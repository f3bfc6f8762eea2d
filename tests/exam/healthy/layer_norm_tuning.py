"""LN tuning: PEFT trains copies of the norms and nothing else."""

import tiny
from datasets import Dataset
from peft import LNTuningConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"),
    LNTuningConfig(task_type="CAUSAL_LM", target_modules=["input_layernorm", "post_attention_layernorm", "norm"]),
)
model.print_trainable_parameters()
rows = [dict(tok(f"{text} <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "norms",
        max_steps=30,
        learning_rate=5e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("norms/adapter")
