"""A script as users write it: SFT with LoRA on a new model of a given size, evaluated before and after 10 steps.

python watched.py tiny|66M
"""

import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config
from trl import SFTConfig, SFTTrainer

SIZES = {
    # name: hidden and intermediate size, layers, heads, vocabulary, rows a batch, tokens a row, rows held out
    "tiny": (64, 128, 2, 4, 128, 8, 25, 16),
    "66M": (640, 1792, 12, 10, 8_000, 4, 128, 4),
}
STEPS = 10
"""As many as a watch lets a training take, so that both take the same."""

hidden, intermediate, layers, heads, vocabulary, batch, tokens, held_out = SIZES[sys.argv[1]]
names = {f"w{number}": number for number in range(vocabulary - 2)} | {"<pad>": vocabulary - 2, "<eos>": vocabulary - 1}
words = Tokenizer(models.WordLevel(names, unk_token="<pad>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(
    Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        pad_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )
)


def rows(count: int) -> Dataset:
    """Words at random."""
    drawn = torch.randint(vocabulary - 2, (count, tokens - 1)).tolist()
    return Dataset.from_list([{"text": " ".join(f"w{number}" for number in row)} for row in drawn])


trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        max_steps=STEPS,
        learning_rate=1e-3,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    ),
    train_dataset=rows(batch * STEPS),
    eval_dataset=rows(held_out),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
print(trainer.evaluate())
trainer.train()
print(trainer.evaluate())
