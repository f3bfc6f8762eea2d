"""As `sft_peft_config`, with PiSSA, which starts from the largest singular values of the weights and trains them. A
checkpoint is saved in the middle of training: the configuration is a special one whenever PEFT saves it.
"""

from __future__ import annotations

from peft import LoraConfig, PeftModel
from trl import SFTTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import sft
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    with record.at(Stage.TRAINER):
        config = LoraConfig(**adapt.lora_options(setup.lora), init_lora_weights="pissa")
        arguments = sft.arguments(setup)
        arguments["args"].save_strategy = type(arguments["args"].save_strategy)("steps")
        arguments["args"].save_steps = setup.steps // 2
        trainer = SFTTrainer(model=model, peft_config=config, **arguments)
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
