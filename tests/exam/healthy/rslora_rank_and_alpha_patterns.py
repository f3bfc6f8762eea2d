"""rsLoRA with another rank for one layer and another alpha for the values."""

import tiny
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
encoded = [{"input_ids": ids} for ids in tok([text + " <eos>" for text in tiny.texts(80)])["input_ids"]]
config = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    r=4,
    lora_alpha=8,
    use_rslora=True,
    target_modules=["q_proj", "v_proj"],
    rank_pattern={"layers.1.self_attn.q_proj": 12},
    alpha_pattern={"v_proj": 2},
)
model = get_peft_model(tiny.model(), config)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "rslora",
        num_train_epochs=3,
        learning_rate=3e-2,
        use_cpu=True,
        report_to="none",
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        per_device_train_batch_size=8,
    ),
    train_dataset=Dataset.from_list(encoded[:64]),
    eval_dataset=Dataset.from_list(encoded[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
result = trainer.train()
print(result.metrics)
