"""Llama's old habit: the unknown token pads, on the left; labels come from the language-modelling collator."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer(pad="<unk>", side="left")
model = tiny.model("Llama")
model.config.pad_token_id = tok.pad_token_id
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj"]))
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "unk-pad",
        num_train_epochs=3,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False, pad_to_multiple_of=8),
)
trainer.train()
