"""Prefix tuning with a projection under the Trainer; the adapter that is saved is frozen when it is loaded, rightly."""

import tiny
from datasets import Dataset
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Llama", initializer_range=0.1),
    PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6, prefix_projection=True),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "prefix",
        max_steps=40,
        learning_rate=0.1,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("prefix/adapter")
loaded = PeftModel.from_pretrained(tiny.model("Llama", initializer_range=0.1), "prefix/adapter")
print("trainable after loading, for use only:", sum(p.requires_grad for p in loaded.parameters()))
