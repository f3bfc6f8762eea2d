"""Input and output embeddings are one tensor: fewer parameters than names, and saved once."""

import tiny
from datasets import Dataset
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = tiny.model("Qwen2", tie_word_embeddings=True)
assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "tied",
        num_train_epochs=3,
        learning_rate=5e-3,
        weight_decay=0.01,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("tied/final")
again = AutoModelForCausalLM.from_pretrained("tied/final")
print("still tied:", again.get_input_embeddings().weight is again.get_output_embeddings().weight)
