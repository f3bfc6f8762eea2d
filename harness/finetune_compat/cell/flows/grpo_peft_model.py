"""Prepare and wrap the model, then pass the PeftModel to GRPOTrainer without peft_config. The reference model is the
same model with its adapters disabled, or in later releases with a frozen copy of the adapter, which the trainer adds.
"""

from __future__ import annotations

from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from trl import GRPOTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import online
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    if setup.quantized:
        with record.at(Stage.PREPARE):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=setup.gradient_checkpointing)
            record.census(model)

    with record.at(Stage.PEFT):
        model = get_peft_model(model, adapt.lora_config(setup))
        record.census(model)

    with record.at(Stage.TRAINER):
        trainer = GRPOTrainer(model=model, **online.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
