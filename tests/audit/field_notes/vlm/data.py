"""Receipts as conversations with one image each."""

import json
from pathlib import Path

from datasets import Dataset


def conversations(path):
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return Dataset.from_list(
        [
            {
                "images": [row["image"]],
                "messages": [
                    {"role": "user", "content": row["question"]},
                    {"role": "assistant", "content": json.dumps(row["fields"])},
                ],
            }
            for row in rows
        ]
    )
