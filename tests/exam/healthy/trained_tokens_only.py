"""PEFT's trainable tokens: three rows of the embedding train with LoRA, all other rows stay."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
marks = [tok.convert_tokens_to_ids(word) for word in ("question", "answer", "<eos>")]
rows = Dataset.from_list([dict(tok(f"question {q} answer {a} <eos>")) for q, a in tiny.questions(80)])
model = get_peft_model(
    tiny.model("Llama"),
    LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], trainable_token_indices={"embed_tokens": marks}
    ),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "tokens",
        num_train_epochs=3,
        learning_rate=2e-2,
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
model.save_pretrained("tokens/adapter")
