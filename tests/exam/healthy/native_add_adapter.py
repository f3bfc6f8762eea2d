"""PEFT through Transformers: model.add_adapter, no PeftModel anywhere."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

where = tiny.saved("Llama")
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = AutoModelForCausalLM.from_pretrained(where)
model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"], r=8), adapter_name="german")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "native",
        max_steps=20,
        learning_rate=4e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("native/german")
again = AutoModelForCausalLM.from_pretrained(where)
again.load_adapter("native/german")
print("loaded", again.active_adapters())
