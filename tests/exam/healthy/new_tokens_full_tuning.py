"""Full fine-tuning after a resize: every weight trains, so the new rows do too, and everything is saved."""

import tiny
from datasets import Dataset
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
added = tok.add_tokens(["<tool>", "</tool>", "<result>"], special_tokens=True)
model = tiny.model("Llama", tie_word_embeddings=True, vocab_size=62)
model.resize_token_embeddings(len(tok), mean_resizing=False)
print("tokens added:", added, "vocabulary:", model.config.vocab_size)
rows = Dataset.from_list([dict(tok(f"{q} <tool> {a} </tool> <result> {a} <eos>")) for q, a in tiny.questions(80)])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "tools",
        num_train_epochs=3,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("tools/final")
tok.save_pretrained("tools/final")
print(AutoModelForCausalLM.from_pretrained("tools/final").get_output_embeddings().weight.shape)
