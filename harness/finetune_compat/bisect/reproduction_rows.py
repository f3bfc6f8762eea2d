"""What the script of a flow takes from its objective: the trainer, its rows and its arguments, as text of a script.

Each text uses names of the template in `finetune_compat.bisect.reproduction`: `texts`, `tokenizer`, `known`,
`training_options`. Options of several releases stand side by side, and `known` selects those that a release has.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetune_compat.contract.catalog import COMPLETION_WORDS, GENERATED_TOKENS, GENERATIONS, ROW_WORDS


@dataclass(frozen=True, slots=True)
class Rows:
    """The part of a script that follows from its objective."""

    arguments: str
    """Statements that define `arguments()`, the keyword arguments of the trainer without the model."""
    trainer: str = ""
    """Statements that import the trainer and its configuration, if the flow has them from its objective."""
    evaluated: bool = True
    """Whether a lower eval loss means a better model, so that the script prints it before and after training."""


_SPLITS = "(texts[:64], texts[64:80])"
_SHORTEST = f'"max_length": {2 * ROW_WORDS}'
_TEXT = f'"packing": False, "loss_type": "nll",\n        {_SHORTEST}, "max_seq_length": {2 * ROW_WORDS}'
_PROMPT_WORDS = ROW_WORDS - COMPLETION_WORDS


def _of_trl(method: str, rows: str, options: str, more: str = "") -> str:
    """`arguments()` for a trainer of TRL.

    Args:
        method: the name in its classes, for example `SFT`.
        rows: an expression for the data set of the texts `some`.
        options: the items of a dict of options.
        more: keyword arguments of `known` for the trainer besides the tokenizer.
    """
    return f"""
def arguments():
    options = training_options() | {{
        {options},
    }}
    train, held_out = ({rows} for some in {_SPLITS})
    takes = known({method}Trainer, processing_class=tokenizer, tokenizer=tokenizer{more})
    config = {method}Config(**known({method}Config, **options))
    return {{"args": config, "train_dataset": train, "eval_dataset": held_out, **takes}}
"""


def _experimental(method: str) -> str:
    return f"""
try:
    from trl import {method}Config, {method}Trainer
except ImportError:  # later releases
    from trl.experimental.{method.lower()} import {method}Config, {method}Trainer
"""


_SFT = _of_trl(
    "SFT",
    'Dataset.from_dict({"text": some})',
    f'"dataset_text_field": "text", {_TEXT}',
)

_COMPLETIONS = f"""
def tokenized(text):
    words = text.split(" ")
    prompt = tokenizer(" ".join(words[:-{COMPLETION_WORDS}]))["input_ids"]
    completion = [*tokenizer(" ".join(words[-{COMPLETION_WORDS}:]))["input_ids"], tokenizer.eos_token_id]
    return {{"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}}


def without_labels(rows):
    return rows.map(lambda row: {{"labels": [-100] * len(row["labels"])}})

""" + _of_trl(
    "SFT",
    "Dataset.from_list([tokenized(text) for text in some])",
    f'{_TEXT}, "dataset_kwargs": {{"skip_prepare_dataset": True}}',
    ", data_collator=DataCollatorForSeq2Seq(tokenizer)",
)

_PLAIN = f"""
def arguments():
    rows = [Dataset.from_dict({{"input_ids": tokenizer(some)["input_ids"]}}) for some in {_SPLITS}]
    args = TrainingArguments(**known(TrainingArguments, **training_options(), label_names=["labels"]))
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    return {{"args": args, "train_dataset": rows[0], "eval_dataset": rows[1], "data_collator": collator}}
"""

_PREFERENCE = f"""
def preference(text):
    words = text.split(" ")
    prompt, chosen = words[:-{COMPLETION_WORDS}], words[-{COMPLETION_WORDS}:]
    rejected = [f"w{{int(word[1:]) + 20}}" for word in chosen]  # words that no text has
    return {{"prompt": " ".join(prompt), "chosen": " " + " ".join(chosen), "rejected": " " + " ".join(rejected)}}

"""

_PREFERENCES = "Dataset.from_list([preference(text) for text in some])"

_UNPAIRED = f"""
def unpaired(place, text):
    words = text.split(" ")
    prompt, completion = words[:-{COMPLETION_WORDS}], words[-{COMPLETION_WORDS}:]
    if place % 2:
        completion = [f"w{{int(word[1:]) + 20}}" for word in completion]  # words that no text has
    return {{"prompt": " ".join(prompt), "completion": " " + " ".join(completion), "label": place % 2 == 0}}

""" + _of_trl("KTO", "Dataset.from_list([unpaired(*each) for each in enumerate(some)])", f'"beta": 0.1, {_SHORTEST}')

_REWARDED = f"""
tokenizer.model_input_names = ["input_ids", "attention_mask"]


def mean_word(completions, **_):
    numbers = [[int(word[1:]) for word in text.split() if word[0] == "w"] for text in completions]
    return [sum(some) / len(some) / 120 if some else 0.0 for some in numbers]


def prompt(text):
    return {{"prompt": " ".join(text.split(" ")[:{_PROMPT_WORDS}])}}

"""

_PROMPTS = "Dataset.from_list([prompt(text) for text in some])"

_GENERATED = (
    f'"num_generations": {GENERATIONS}, "max_completion_length": {GENERATED_TOKENS}, "temperature": 1.0,\n'
    f'        "per_device_train_batch_size": {GENERATIONS} * training_options()["per_device_train_batch_size"],\n'
    '        "disable_dropout": True, '
)

_SCORED = f"""
def pair(text):
    words = text.split(" ")
    other = [f"w{{int(word[1:]) + 20}}" for word in words[-{COMPLETION_WORDS}:]]  # words that no text has
    row = {{"chosen": text, "rejected": " ".join([*words[:-{COMPLETION_WORDS}], *other])}}
    for side in ("chosen", "rejected"):  # earlier releases do not tokenize
        tokens = tokenizer(row[side])
        row |= {{f"input_ids_{{side}}": tokens["input_ids"], f"attention_mask_{{side}}": tokens["attention_mask"]}}
    return row

""" + _of_trl(
    "Reward",
    "Dataset.from_list([pair(text) for text in some])",
    f'{_SHORTEST}, "gradient_checkpointing_kwargs": {{"use_reentrant": False}}',
)

_WITHOUT_REFERENCE = f'"beta": 0.1, {_SHORTEST}, "max_prompt_length": {ROW_WORDS}'

ROWS = {
    "sft.arguments": Rows(_SFT),
    "sft.arguments_for_completions": Rows(_COMPLETIONS),
    "plain.arguments": Rows(_PLAIN),
    "preference.arguments": Rows(
        _PREFERENCE + _of_trl("DPO", _PREFERENCES, f'"beta": 0.1, "loss_type": "sigmoid", {_SHORTEST}')
    ),
    "unpaired.arguments": Rows(_UNPAIRED),
    "online.arguments": Rows(
        _REWARDED
        + _of_trl(
            "GRPO",
            _PROMPTS,
            f'{_GENERATED}"beta": 0.04, "loss_type": "grpo", "use_bias_correction_kl": False',
            ", reward_funcs=mean_word",
        ),
        evaluated=False,
    ),
    "leave_one_out.arguments": Rows(
        _REWARDED
        + _of_trl(
            "RLOO", _PROMPTS, f'{_GENERATED}"beta": 0.05, "normalize_advantages": False', ", reward_funcs=mean_word"
        ),
        "from trl import RLOOConfig, RLOOTrainer\n",
        evaluated=False,
    ),
    "odds_ratio.arguments": Rows(
        _PREFERENCE + _of_trl("ORPO", _PREFERENCES, _WITHOUT_REFERENCE), _experimental("ORPO")
    ),
    "contrastive.arguments": Rows(
        _PREFERENCE + _of_trl("CPO", _PREFERENCES, f'{_WITHOUT_REFERENCE}, "loss_type": "sigmoid", "cpo_alpha": 1.0'),
        _experimental("CPO"),
    ),
    "reward.arguments": Rows(_SCORED),
}
"""By the function that the flow calls for the keyword arguments of its trainer."""
