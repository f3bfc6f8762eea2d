"""Where the padding token is the end-of-sequence token, as many set it, rows still teach the model to end."""

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

words = Tokenizer(WordLevel({"<eos>": 0, "one": 1, "two": 2}, unk_token="<eos>"))
words.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
tokenizer.pad_token = tokenizer.eos_token
rows = [{"input_ids": [1, 2, tokenizer.eos_token_id]}, {"input_ids": [1, 2, 1, 2, tokenizer.eos_token_id]}]
batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)
assert batch["labels"][1][3] == rows[1]["input_ids"][3], "the labels are not the tokens"
assert batch["labels"][1][-1] == tokenizer.eos_token_id, (
    "no row has a label for its end: the model never learns to stop"
)
