"""A run that is resumed inside its second epoch sees the rows that the uninterrupted run sees from there on."""

import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
ROWS, STEPS, RESUMED_AFTER = 8, 16, 12  # one row per step: two epochs, and the middle of the second


def trained(folder, checkpoint=None):
    """The rows of the steps of one run, in order."""
    seen = []

    def batch(rows):
        seen.extend(row["input_ids"][0] for row in rows)
        tokens = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": tokens, "labels": tokens}

    args = TrainingArguments(
        output_dir=folder,
        max_steps=STEPS,
        per_device_train_batch_size=1,
        save_steps=RESUMED_AFTER,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
    data = [{"input_ids": [row, 1, 2, 3]} for row in range(ROWS)]
    Trainer(model, args, data_collator=batch, train_dataset=data).train(resume_from_checkpoint=checkpoint)
    return seen


with tempfile.TemporaryDirectory() as folder:
    whole = trained(folder)
    checkpoint = Path(folder, f"checkpoint-{RESUMED_AFTER}")
    # Rows do not depend on it, and Transformers before 4.47 reads it in a way that torch refuses from 2.6 on.
    (checkpoint / "rng_state.pth").unlink()
    resumed = trained(folder, str(checkpoint))
print("rows of the epochs:", whole[:ROWS], whole[ROWS:], "- resumed:", resumed)
assert len(whole) == STEPS, "not every step of the uninterrupted run has one row"
assert resumed == whole[RESUMED_AFTER:], "a resumed run sees other rows than the uninterrupted one"
