"""run_clm.py in small: three dataclasses read by HfArgumentParser, the last checkpoint is looked for, metrics are saved."""

import logging
import math
import sys
from dataclasses import dataclass, field

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="", metadata={"help": "Where the model is; made if empty."})
    lora_rank: int = field(default=8)
    lora_targets: str = field(default="q_proj,v_proj,up_proj,down_proj")


@dataclass
class DataArguments:
    train_rows: int = field(default=64)
    block_size: int = field(default=32)


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    given = sys.argv[1:] or [
        "--output_dir",
        "clm",
        "--do_train",
        "--do_eval",
        "--max_steps",
        "20",
        "--learning_rate",
        "4e-2",
        "--use_cpu",
        "--report_to",
        "none",
        "--logging_steps",
        "5",
        "--save_steps",
        "10",
    ]
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(args=given)
    set_seed(training_args.seed)
    where = model_args.model_name_or_path or tiny.saved("Llama")
    tokenizer = AutoTokenizer.from_pretrained(where)
    model = AutoModelForCausalLM.from_pretrained(where)
    model = get_peft_model(
        model,
        LoraConfig(task_type="CAUSAL_LM", r=model_args.lora_rank, target_modules=model_args.lora_targets.split(",")),
    )

    def group(batch):
        # All texts in a row, cut into blocks of one length, as run_clm.py does.
        ids = sum(tokenizer([text + " <eos>" for text in batch["text"]])["input_ids"], [])
        size = data_args.block_size
        blocks = [ids[i : i + size] for i in range(0, len(ids) // size * size, size)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    def load(n, seed):
        return Dataset.from_list(tiny.text_rows(n, seed)).map(group, batched=True, remove_columns=["text"])

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=load(data_args.train_rows, 0) if training_args.do_train else None,
        eval_dataset=load(24, 1) if training_args.do_eval else None,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    if training_args.do_train:
        result = trainer.train()
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        metrics["perplexity"] = math.exp(metrics["eval_loss"])
        trainer.log_metrics("eval", metrics)


if __name__ == "__main__":
    main()
