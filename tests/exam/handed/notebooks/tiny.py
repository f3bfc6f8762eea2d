"""Tiny model, tokenizer and rows, made on the spot (shared by the scripts in this directory)."""

import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

WORDS = (
    "red green blue one two three four five cat dog bird sun moon sea tree book king queen runs sits eats "
    "what is the of color number animal user assistant system"
).split()
SPECIAL = ["<unk>", "<pad>", "<eos>", "<bos>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
TEMPLATE_GEN = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['role']=='assistant' %}{% generation %}{{ m['content'] }} <|im_end|> "
    "{% endgeneration %}{% else %}{{ m['content'] }} <|im_end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def tokenizer(pad="<pad>", template=TEMPLATE, extra=()):
    vocab = {w: i for i, w in enumerate(SPECIAL + WORDS)}
    t = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.decoder = decoders.Fuse()
    tok = PreTrainedTokenizerFast(
        tokenizer_object=t,
        unk_token="<unk>",
        pad_token=pad,
        eos_token="<eos>",
        bos_token="<bos>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tok.model_max_length = 512
    tok.chat_template = template
    return tok


def model(vocab=64, tie=False, seed=0, cls=Qwen2ForCausalLM, **kw):
    torch.manual_seed(seed)
    d = dict(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tie,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=3,
    )
    d.update(kw)
    return cls(Qwen2Config(**d))


def questions(n=64, seed=1):
    r = random.Random(seed)
    out = []
    for _ in range(n):
        q = " ".join(r.choices(WORDS[:21], k=r.randint(3, 8)))
        a = " ".join(["sun", "moon", "sea", "tree"][: r.randint(2, 4)])
        out.append((q, a))
    return out
