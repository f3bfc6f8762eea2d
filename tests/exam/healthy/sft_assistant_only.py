"""assistant_only_loss with a template that marks the assistant's words and its stop token."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer(template=tiny.CHAT_MARKED, eos="<|im_end|>")
trainer = SFTTrainer(
    model=tiny.model("Qwen2", eos_token_id=tok.eos_token_id),
    args=SFTConfig(
        output_dir="assistant",
        num_train_epochs=3,
        learning_rate=1e-2,
        assistant_only_loss=True,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.chat_rows(64)),
    eval_dataset=Dataset.from_list(tiny.chat_rows(16, seed=1)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
trainer.save_model("assistant/final")
