"""CPO with SimPO's loss: no reference, lengths are divided out, a margin is asked for."""

import tiny
from datasets import Dataset

try:
    from trl.experimental.cpo import CPOConfig, CPOTrainer
except ImportError:
    from trl import CPOConfig, CPOTrainer

tok = tiny.tokenizer()
trainer = CPOTrainer(
    model=tiny.model("Qwen2"),
    args=tiny.known(
        CPOConfig,
        output_dir="simpo",
        max_steps=16,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        beta=2.0,
        loss_type="simpo",
        simpo_gamma=0.5,
        cpo_alpha=0.0,
        max_length=32,
        max_prompt_length=16,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    **tiny.reader(CPOTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
