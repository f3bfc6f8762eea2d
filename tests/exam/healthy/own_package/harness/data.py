import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling

TOKENIZER = tiny.tokenizer()


def rows(n, seed):
    return Dataset.from_list([dict(TOKENIZER(text + " <eos>")) for text in tiny.texts(n, seed)])


def collator():
    return DataCollatorForLanguageModeling(TOKENIZER, mlm=False)
