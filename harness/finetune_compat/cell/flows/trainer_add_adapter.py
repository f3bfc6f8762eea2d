"""As `trainer_peft_model`, but the adapter is added by Transformers' own `model.add_adapter`: there is no PeftModel."""

from __future__ import annotations

from peft import PeftModel, prepare_model_for_kbit_training
from transformers import Trainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import plain
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
        model.add_adapter(adapt.lora_config(setup))
        record.census(model)

    with record.at(Stage.TRAINER):
        trainer = Trainer(model=model, **plain.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
