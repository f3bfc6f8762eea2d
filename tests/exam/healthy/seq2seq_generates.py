"""A tiny T5 under Seq2SeqTrainer: labels are padded with -100, evaluation generates and counts exact matches."""

import numpy as np
import tiny
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
)

tok = tiny.tokenizer()
torch.manual_seed(0)
model = T5ForConditionalGeneration(
    T5Config(
        vocab_size=64,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=tok.pad_token_id,
        eos_token_id=tok.eos_token_id,
        decoder_start_token_id=tok.pad_token_id,
        dropout_rate=0.0,
    )
)


def encode(n, seed):
    return Dataset.from_list(
        [
            {**tok(f"{q} <eos>"), "labels": tok(f"{q.split()[-1]} {q.split()[0]} <eos>")["input_ids"]}
            for q, _ in tiny.questions(n, seed)
        ]
    )


def exact(prediction):
    guessed = np.where(prediction.predictions < 0, tok.pad_token_id, prediction.predictions)
    wanted = np.where(prediction.label_ids < 0, tok.pad_token_id, prediction.label_ids)
    pairs = zip(tok.batch_decode(guessed, True), tok.batch_decode(wanted, True), strict=True)
    return {"exact": float(np.mean([a.strip() == b.strip() for a, b in pairs]))}


trainer = Seq2SeqTrainer(
    model=model,
    args=Seq2SeqTrainingArguments(
        "t5",
        num_train_epochs=4,
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        predict_with_generate=True,
        generation_max_length=6,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=encode(64, 0),
    eval_dataset=encode(16, 1),
    data_collator=DataCollatorForSeq2Seq(tok, model=model, label_pad_token_id=-100),
    compute_metrics=exact,
)
trainer.train()
