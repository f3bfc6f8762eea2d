"""BERT with masked tokens: most labels are -100, no end token is ever learned and that is right."""

import tiny
import torch
from datasets import Dataset
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
tok.add_special_tokens({"mask_token": "<mask>"})
torch.manual_seed(0)
model = BertForMaskedLM(
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tok.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
)
rows = Dataset.from_list([dict(tok(text)) for text in tiny.texts(160)])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "bert",
        num_train_epochs=5,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(128)),
    eval_dataset=rows.select(range(128, 160)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=True, mlm_probability=0.25),
)
trainer.train()
