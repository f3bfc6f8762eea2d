"""Only the new tokens' rows shall be trained beside LoRA (trainable tokens)."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = tiny.model(vocab_size=len(tok))
added = tok.add_tokens(["<call>", "</call>", "<result>"])
model.resize_token_embeddings(len(tok))
lora = LoraConfig(
    r=8,
    lora_alpha=16,
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
    trainable_token_indices=list(range(added)),
)
model = get_peft_model(model, lora)
model.print_trainable_parameters()
rows = [dict(tok(f"{q} <call> {a} </call> <result> {a} <eos>")) for q, a in tiny.questions()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/adapter")
tok.save_pretrained("out/adapter")
