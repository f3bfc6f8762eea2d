"""LoRA with bias="lora_only": the biases of the wrapped layers train and are saved with the adapter."""

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Qwen2"), LoraConfig(task_type="CAUSAL_LM", bias="lora_only", target_modules=["q_proj", "v_proj"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "biases",
        max_steps=24,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(16, seed=1)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("biases/adapter")
again = PeftModel.from_pretrained(tiny.model("Qwen2"), "biases/adapter")
print("biases saved:", any(p.abs().sum() > 0 for n, p in again.named_parameters() if "base_layer.bias" in n))
