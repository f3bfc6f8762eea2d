"""Make a tiny random Qwen2 and its tokenizer: python make_model.py DIRECTORY, in the environment of a stack."""

import sys

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

ALPHABET = [*"w0123456789", "\u0120"]  # the last is a space, as byte-level tokenizers write it

place = sys.argv[1]
torch.manual_seed(0)
config = Qwen2Config(
    vocab_size=16,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    tie_word_embeddings=False,
    initializer_range=0.05,
    eos_token_id=len(ALPHABET),
    pad_token_id=len(ALPHABET) + 1,
    bos_token_id=None,
)
Qwen2ForCausalLM(config).save_pretrained(place)
# Same kind as Qwen2's tokenizer: with its config Transformers 5.20 reads any other tokenizer as one without tokens.
core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(ALPHABET)}, []))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=64
)
# Without a chat template TRL's own script downloads Qwen3's.
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
tokenizer.save_pretrained(place)
