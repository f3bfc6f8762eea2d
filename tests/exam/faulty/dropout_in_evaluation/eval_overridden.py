"""Monte Carlo dropout was tried out; the override of eval() stayed in the model class."""

from datasets import Dataset
from peft import LoraConfig
from transformers import LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

import torch
import tiny


class Sampling(LlamaForCausalLM):
    def eval(self):
        return self.train(True)


tok = tiny.tokenizer()
torch.manual_seed(0)
trainer = SFTTrainer(
    model=Sampling(tiny.config("Llama", attention_dropout=0.2)),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=16,
        learning_rate=3e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    eval_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(16, 1)]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
