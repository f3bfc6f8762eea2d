"""A tiny model, tokenizer and rows, made on the spot: what the exam's scripts share, and nothing of the product.

A script says `import tiny`; the folder of this file must be on its path (PYTHONPATH=tests/exam).
Everything is a function of its arguments: no network, no file outside a temporary folder, the same rows for the same seed.
The rows can be learned: every word is followed by the next one of the list.
"""

import dataclasses
import inspect
import random
import tempfile

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(48)]
SPEECH = ["system", "user", "assistant", "good", "bad", "question", "answer", ":"]
SPECIAL = ["<pad>", "<eos>", "<unk>", "<bos>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = SPECIAL + SPEECH + WORDS
ROWS = 64
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CHAT = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
# The same with the assistant's words and its stop token marked, which assistant_only_loss asks for.
CHAT_MARKED = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }} <|im_end|> {% endgeneration %}"
    "{% else %}{{ m['content'] }} <|im_end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def tokenizer(pad="<pad>", template=CHAT, side="right", eos="<eos>"):
    """Words and a few special tokens; `pad=None` has no padding token, as many released tokenizers have none."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token=eos,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=256,
    )
    if pad is not None:
        made.pad_token = pad
    made.padding_side = side
    made.chat_template = template
    return made


def config(kind="Qwen2", **more):
    """The config of a tiny model; `kind` is the prefix of its classes: Qwen2, Llama, Mistral, Qwen3."""
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 3,
    }
    return getattr(transformers, f"{kind}Config")(**{**sizes, **more})


def model(kind="Qwen2", head="ForCausalLM", seed=0, **more):
    """A tiny random model: `model("Llama", "ForSequenceClassification", num_labels=1)`."""
    torch.manual_seed(seed)
    return getattr(transformers, f"{kind}{head}")(config(kind, **more))


def saved(kind="Qwen2", head="ForCausalLM", tok=None, **more):
    """A folder with such a model and its tokenizer, for `from_pretrained`."""
    folder = tempfile.mkdtemp(prefix="tiny-")
    model(kind, head, **more).save_pretrained(folder)
    (tok or tokenizer()).save_pretrained(folder)
    return folder


def _run(start, length):
    return " ".join(WORDS[(start + k) % len(WORDS)] for k in range(length))


def _starts(n, seed):
    rng = random.Random(seed)
    return [(rng.randrange(len(WORDS)), rng.randint(4, 7), rng.randint(3, 6)) for _ in range(n)]


def texts(n=ROWS, seed=0):
    """Plain text: words in a row, of several lengths."""
    return [_run(start, asked + told) for start, asked, told in _starts(n, seed)]


def questions(n=ROWS, seed=0):
    """(question, answer): the answer goes on where the question ends."""
    return [(_run(start, asked), _run(start + asked, told)) for start, asked, told in _starts(n, seed)]


def text_rows(n=ROWS, seed=0):
    return [{"text": text} for text in texts(n, seed)]


def completion_rows(n=ROWS, seed=0):
    return [{"prompt": question, "completion": f" {answer}"} for question, answer in questions(n, seed)]


def chat_rows(n=ROWS, seed=0):
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in questions(n, seed)
    ]


def preference_rows(n=ROWS, seed=0):
    """prompt, chosen, rejected: what is chosen goes on rightly, what is rejected jumps."""
    rows = []
    for start, asked, told in _starts(n, seed):
        wrong = " ".join(WORDS[(start + asked + 7 * k + 11) % len(WORDS)] for k in range(told))
        right = _run(start + asked, told)
        rows.append({"prompt": _run(start, asked), "chosen": f" {right}", "rejected": f" {wrong}"})
    return rows


def opinion_rows(n=ROWS, seed=0):
    """prompt, completion, label: every other completion is a wrong one."""
    return [
        {"prompt": row["prompt"], "completion": row["rejected" if i % 2 else "chosen"], "label": i % 2 == 0}
        for i, row in enumerate(preference_rows(n, seed))
    ]


def prompt_rows(n=ROWS, seed=0):
    return [{"prompt": question} for question, _ in questions(n, seed)]


def labelled_rows(n=ROWS, seed=0):
    """text, label: `good` or `bad` stands in the text and in the label."""
    return [{"text": f"{'good' if i % 2 else 'bad'} {text}", "label": i % 2} for i, text in enumerate(texts(n, seed))]


def known(cls, **arguments):
    """`cls` with those arguments that this release of it has: what differs between releases and is no matter here."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in arguments.items() if name in fields})


def reader(trainer, tok):
    """The tokenizer under the name that this release's trainer gives it: processing_class or tokenizer."""
    names = inspect.signature(trainer.__init__).parameters
    return {"processing_class" if "processing_class" in names else "tokenizer": tok}
