"""Pass the base model and peft_config to CPOTrainer, which prepares the model and attaches the adapters."""

from __future__ import annotations

from peft import PeftModel

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import contrastive
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage

CPOTrainer = contrastive.trainer()


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    with record.at(Stage.TRAINER):
        trainer = CPOTrainer(model=model, peft_config=adapt.lora_config(setup), **contrastive.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
