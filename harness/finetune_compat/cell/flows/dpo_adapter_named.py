"""As `dpo_peft_model`, with an adapter that is not called `default`."""

from __future__ import annotations

from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from trl import DPOTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import preference
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage

NAME = "tone"


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    if setup.quantized:
        with record.at(Stage.PREPARE):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=setup.gradient_checkpointing)
            record.census(model)

    with record.at(Stage.PEFT):
        model = get_peft_model(model, adapt.lora_config(setup), adapter_name=NAME)
        record.census(model)

    with record.at(Stage.TRAINER):
        trainer = DPOTrainer(model=model, **preference.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        # PEFT saves an adapter with another name in a folder of that name.
        saved = str(setup.scratch / "saved" / NAME)
        record.census(PeftModel.from_pretrained(base, saved, adapter_name=NAME, is_trainable=True))
