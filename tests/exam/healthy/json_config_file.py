"""All arguments stand in a JSON file that the script writes first and then reads, as job runners do."""

import json
from dataclasses import dataclass

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Job:
    kind: str = "Llama"
    rows: int = 64


with open("job.json", "w") as file:
    json.dump(
        {
            "kind": "Qwen2",
            "rows": 80,
            "output_dir": "job",
            "num_train_epochs": 2,
            "learning_rate": 5e-3,
            "use_cpu": True,
            "report_to": "none",
            "logging_steps": 5,
            "save_strategy": "no",
            "eval_strategy": "epoch",
        },
        file,
    )
job, arguments = HfArgumentParser((Job, TrainingArguments)).parse_json_file("job.json")
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(job.rows)]).train_test_split(0.2, seed=0)
Trainer(
    model=tiny.model(job.kind),
    args=arguments,
    train_dataset=rows["train"],
    eval_dataset=rows["test"],
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
