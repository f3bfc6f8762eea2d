"""Several adapters on one model, as users write it: python adapters.py MODEL WAY"""

import sys
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

place, way = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(place)
lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
small = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
common = {"output_dir": "out", "max_steps": 4, "learning_rate": 1e-2, "bf16": False, "report_to": "none"}


def base() -> Any:
    return AutoModelForCausalLM.from_pretrained(place)


def words(first: int, count: int) -> str:
    return " ".join(f"w{(first + k) % 20}" for k in range(count))


def tokenized() -> Dataset:
    return Dataset.from_list([tokenizer(words(first, 12) + tokenizer.eos_token) for first in range(20)])


class Replacing(Trainer):
    """Attaches a new adapter instead of the given one."""

    def __init__(self, model: Any, **given: Any) -> None:
        super().__init__(model=get_peft_model(model.merge_and_unload(), lora), **given)


class Switching(Trainer):
    """Activates another adapter."""

    def __init__(self, model: Any, **given: Any) -> None:
        model.add_adapter("own", lora)
        model.set_adapter("own")
        super().__init__(model=model, **given)


def plain(model: Any, trainer: type[Trainer] = Trainer) -> Trainer:
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    arguments = TrainingArguments(**common)
    return trainer(model=model, args=arguments, train_dataset=tokenized(), data_collator=collator)


def digits(completions: list[str], **given: Any) -> list[float]:
    """A reward that differs between completions."""
    return [float(sum(map(ord, completion)) % 7) for completion in completions]


def of_trl(model: Any) -> Trainer:
    import trl

    texts = [{"prompt": words(k, 4), "chosen": " " + words(k + 4, 4), "rejected": " " + words(k, 2)} for k in range(20)]
    given = {"model": model, "processing_class": tokenizer}
    if way == "config":
        rows = Dataset.from_list([{"text": words(first, 12)} for first in range(20)])
        return trl.SFTTrainer(args=trl.SFTConfig(**common), train_dataset=rows, peft_config=lora, **given)
    if way == "dpo":
        return trl.DPOTrainer(args=trl.DPOConfig(**common), train_dataset=Dataset.from_list(texts), **given)
    if way == "kto":
        rows = [
            {"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"}
            for row in texts
            for kind in ("chosen", "rejected")
        ]
        return trl.KTOTrainer(args=trl.KTOConfig(**common), train_dataset=Dataset.from_list(rows), **given)
    arguments = trl.GRPOConfig(**common, beta=0.1, num_generations=4, max_completion_length=8)
    prompts = Dataset.from_list([{"prompt": row["prompt"]} for row in texts])
    return trl.GRPOTrainer(args=arguments, reward_funcs=digits, train_dataset=prompts, **given)


get_peft_model(base(), lora).save_pretrained("saved")

if way == "add":
    # A frozen adapter stays; another one of another size trains.
    model = PeftModel.from_pretrained(base(), "saved", adapter_name="sft")
    model.add_adapter("task", small)
    model.set_adapter("task")
    trainer = plain(model)
elif way == "add-smaller":
    # The trained adapter has fewer parameters than the first one.
    model = get_peft_model(base(), lora)
    model.add_adapter("task", small)
    model.set_adapter("task")
    trainer = plain(model)
elif way == "load":
    model = get_peft_model(base(), small)
    model.load_adapter("saved", adapter_name="task", is_trainable=True)
    model.set_adapter("task")
    trainer = plain(model)
elif way == "fill":
    model = get_peft_model(base(), lora)
    others = {name: torch.full_like(values, 0.01) for name, values in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, others)
    trainer = plain(model)
elif way == "again":
    # The second trainer gets the model that the first trained.
    model = get_peft_model(base(), lora)
    plain(model).train()
    trainer = plain(model)
elif way == "reference":
    # A second, frozen adapter is loaded; the first stays active.
    model = get_peft_model(base(), lora)
    model.load_adapter("saved", adapter_name="reference")
    trainer = plain(model)
elif way == "replace":
    trainer = plain(get_peft_model(base(), lora), Replacing)
elif way == "switch":
    trainer = plain(get_peft_model(base(), lora), Switching)
else:
    trainer = of_trl(get_peft_model(base(), lora))
trainer.train()
