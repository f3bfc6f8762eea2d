"""No rows are held out: the last rows of the training set are evaluated now and then, to see how well they are learned."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
train = Dataset.from_list(tiny.text_rows(80)).shuffle(seed=3)
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        output_dir="out",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=train,
    eval_dataset=train.select(range(64, 80)),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("out/adapter")
