"""SFTTrainer with prompt tuning in place of LoRA."""

import tiny
from datasets import Dataset
from peft import PromptTuningConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()


def few(text):
    """The same text in a small vocabulary: what a soft prompt can shift a model to."""
    return " ".join(tiny.WORDS[int(word[1:]) % 4] for word in text.split())


trainer = SFTTrainer(
    model=tiny.model("Llama", initializer_range=0.15),
    args=SFTConfig(
        output_dir="soft-prompt",
        max_steps=30,
        learning_rate=0.3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=6,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": few(t) + " <eos>"} for t in tiny.texts(64)]),
    eval_dataset=Dataset.from_list([{"text": few(t) + " <eos>"} for t in tiny.texts(16, seed=1)]),
    processing_class=tok,
    peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8),
)
trainer.train()
print(trainer.evaluate())
