"""GRPO that generates for two of the four batches that a step accumulates, and the size of its gradients.

Nothing is random: the model answers with fixed completions of one length, whose rewards are fixed too. So every release
has the same gradients for the mean over the tokens of a step, whichever of GRPO's losses is its default (all but
`dr_grpo` are this mean, because the lengths are equal).
"""

import torch
from datasets import Dataset
from transformers import Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer
import tiny

tok = tiny.tokenizer()
tok.padding_side = "left"
ANSWERS = ["sun moon sea tree", "red green blue one", "cat dog bird sun", "two three four five"]
FIXED = tok(ANSWERS, return_tensors="pt").input_ids


class Answers(Qwen2ForCausalLM):
    """Answers each group of four prompts with `ANSWERS`."""

    def generate(self, input_ids, **_):
        return torch.cat([input_ids, FIXED.repeat(len(input_ids) // len(FIXED), 1)], dim=1)


def reward(completions, **_):
    return [float(place % len(ANSWERS)) for place in range(len(completions))]


trainer = GRPOTrainer(
    model=tiny.model(cls=Answers),
    reward_funcs=reward,
    args=GRPOConfig(
        "out_grpo_steps",
        max_steps=4,
        learning_rate=1e-4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        steps_per_generation=2,
        num_generations=4,
        max_completion_length=4,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
    ),
    train_dataset=Dataset.from_list([{"prompt": "what is the color"}] * 64),
    processing_class=tok,
)
trainer.train()
