"""Pass a model with a new score head and a LoraConfig that saves the head to RewardTrainer, which prepares the model
and attaches the adapters.
"""

from __future__ import annotations

from peft import PeftModel
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

    with record.at(Stage.TRAINER):
        trainer = RewardTrainer(model=model, peft_config=reward.lora_config(setup), **reward.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(scored)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
