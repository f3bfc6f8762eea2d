"""Prepare and wrap a model with a new score head, then pass the PeftModel to RewardTrainer without peft_config."""

from __future__ import annotations

from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from trl import RewardTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import reward
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        scored = reward.with_score(setup)
        model = adapt.load_model(scored)
        record.census(model)

    if setup.quantized:
        with record.at(Stage.PREPARE):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=setup.gradient_checkpointing)
            record.census(model)

    with record.at(Stage.PEFT):
        model = get_peft_model(model, reward.lora_config(setup))
        record.census(model)

    with record.at(Stage.TRAINER):
        trainer = RewardTrainer(model=model, **reward.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(scored)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
