"""An adapter for style is loaded frozen; one for the task is added, made active and trained on its own."""

import shutil

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

shutil.rmtree("two", ignore_errors=True)
targets = ["q_proj", "v_proj"]
first = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=targets, init_lora_weights=False))
first.save_pretrained("two/style")

model = PeftModel.from_pretrained(tiny.model(), "two/style", adapter_name="style", is_trainable=False)
model.add_adapter("task", LoraConfig(task_type="CAUSAL_LM", target_modules=targets, r=4))
model.set_adapter("task")

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
Trainer(
    model=model,
    args=TrainingArguments(
        "two/run",
        max_steps=20,
        learning_rate=4e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
model.save_pretrained("two/out", selected_adapters=["task"])
