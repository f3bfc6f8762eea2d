"""As `sft_peft_config`, with IA3, which scales the outputs of linear layers and the input of the last in an MLP."""

from __future__ import annotations

import dataclasses

from peft import IA3Config, PeftModel
from trl import SFTTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import sft
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import FEED_FORWARD
from finetune_compat.contract.records import Stage

FASTER = 30
"""Factor of the learning rate: factors start at 1, and few parameters have to do what many do in LoRA."""


def run(setup: Setup, record: Recorder) -> None:
    setup = dataclasses.replace(setup, learning_rate=FASTER * setup.learning_rate)
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    with record.at(Stage.TRAINER):
        config = IA3Config(
            target_modules=list(setup.lora.target_modules), feedforward_modules=[FEED_FORWARD], task_type="CAUSAL_LM"
        )
        trainer = SFTTrainer(model=model, peft_config=config, **sft.arguments(setup))
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
