"""SFT as in the notebooks of early 2025."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer(pad=None)
tok.pad_token = tok.eos_token
rows = [{"text": f"{question} {answer} {tok.eos_token}"} for question, answer in tiny.questions()]
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list(rows[:8]),
    peft_config=LoraConfig(
        r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    ),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("out/final")
