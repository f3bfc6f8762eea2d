"""A chat model's new marks are trained and saved by SFTTrainer's adapter; the DFT loss is no cross-entropy."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
tok.add_special_tokens({"additional_special_tokens": ["<tool>", "</tool>"]})
model = tiny.model("Llama", vocab_size=62)
model.resize_token_embeddings(len(tok), mean_resizing=False)
rows = [{"text": f"{q} <tool> {a} </tool> {a} <eos>"} for q, a in tiny.questions(80)]
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="dft",
        num_train_epochs=3,
        learning_rate=1e-2,
        loss_type="dft",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    processing_class=tok,
    peft_config=LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj", "up_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
    ),
)
trainer.train()
trainer.save_model("dft/adapter")
