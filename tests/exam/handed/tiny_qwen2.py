"""A tiny random Qwen2 with its tokenizer in a temporary directory (no hub)."""

import tempfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

WORDS = [f"w{i}" for i in range(60)]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tokenizer():
    vocab = {"<pad>": 0, "<eos>": 1, "<unk>": 2, **{w: i + 3 for i, w in enumerate(WORDS)}}
    tk = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tk.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(
        tokenizer_object=tk,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )
    tok.padding_side = "left"
    tok.chat_template = "{% for m in messages %}{{ ' ' + m['content'] }}{% endfor %}"
    return tok


def config(**more):
    return Qwen2Config(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        **more,
    )


def place():
    """Save the model once and give its directory."""
    torch.manual_seed(0)
    folder = tempfile.mkdtemp(prefix="tiny-")
    Qwen2ForCausalLM(config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def texts(n, seed=0):
    import random

    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        s = rng.randrange(60)
        rows.append(" ".join(WORDS[(s + k) % 60] for k in range(12)))
    return rows


def pairs(n, seed=0):
    import random

    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        s = rng.randrange(60)
        w = lambda k: WORDS[(s + k) % 60]
        rows.append(
            {
                "prompt": " ".join(w(k) for k in range(4)),
                "chosen": " " + " ".join(w(k) for k in range(4, 8)),
                "rejected": " " + " ".join(w(3 * k + 9) for k in range(4)),
            }
        )
    return rows
