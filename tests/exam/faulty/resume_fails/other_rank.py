"""Resume with a larger rank than the checkpoint has."""

import argparse

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8])
options = parser.parse_args()
tok = tiny.tokenizer()
for turn, rank in enumerate(options.ranks):
    trainer = SFTTrainer(
        model=tiny.model(),
        args=SFTConfig(
            "out",
            max_steps=6 * (turn + 1),
            save_steps=6,
            learning_rate=5e-3,
            use_cpu=True,
            bf16=False,
            report_to="none",
            logging_steps=2,
        ),
        train_dataset=Dataset.from_list(tiny.text_rows()),
        processing_class=tok,
        peft_config=LoraConfig(r=rank, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    )
    trainer.train(resume_from_checkpoint=turn > 0)
