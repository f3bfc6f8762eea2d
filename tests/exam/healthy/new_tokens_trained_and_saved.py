"""Special tokens are added and the embeddings resized; embed_tokens and lm_head are trained and saved whole."""

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
tok.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})


def base():
    model = tiny.model("Qwen2", vocab_size=62)
    model.resize_token_embeddings(len(tok), mean_resizing=False)
    return model


rows = Dataset.from_list([dict(tok(f"{q} <think> {q} </think> {a} <eos>")) for q, a in tiny.questions(64)])
model = get_peft_model(
    base(),
    LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], modules_to_save=["embed_tokens", "lm_head"]),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "thinking",
        max_steps=24,
        learning_rate=1e-2,
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
model.save_pretrained("thinking/adapter")
tok.save_pretrained("thinking/adapter")
again = PeftModel.from_pretrained(base(), "thinking/adapter")
same = again.get_input_embeddings().weight.equal(model.get_input_embeddings().weight)
print("rows of the new tokens came back:", same)
