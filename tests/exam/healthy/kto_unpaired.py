"""KTO on unpaired opinions with LoRA; half of the completions are undesirable."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import KTOConfig, KTOTrainer

tok = tiny.tokenizer()
trainer = KTOTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(
        KTOConfig,
        output_dir="kto",
        max_steps=16,
        per_device_train_batch_size=8,
        learning_rate=2e-2,
        beta=0.1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        max_length=32,
        max_prompt_length=16,
    ),
    train_dataset=Dataset.from_list(tiny.opinion_rows(64)),
    eval_dataset=Dataset.from_list(tiny.opinion_rows(16, seed=1)),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(KTOTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
