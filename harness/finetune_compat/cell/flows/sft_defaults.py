"""Pass the base model, the data and peft_config to SFTTrainer, and leave other options at their defaults: loss,
packing, collator, checkpointing, optimizer. Those that are passed make the training short, measured and possible on a
CPU.
"""

from __future__ import annotations

from peft import PeftModel
from trl import SFTConfig, SFTTrainer

from finetune_compat.cell import adapt
from finetune_compat.cell.objectives import sft
from finetune_compat.cell.recorder import Recorder
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.records import Stage

OPTIONS = (
    *("output_dir", "max_steps", "learning_rate", "seed"),
    *("logging_steps", "report_to", "disable_tqdm"),
    *("use_cpu", "bf16"),
)
"""What is not left at its default."""


def run(setup: Setup, record: Recorder) -> None:
    with record.at(Stage.LOAD):
        model = adapt.load_model(setup)
        record.census(model)

    with record.at(Stage.TRAINER):
        asked = adapt.training_options(setup)
        config = adapt.configured(SFTConfig, {name: asked[name] for name in OPTIONS}, setup)
        arguments = {**sft.arguments(setup), "args": config}
        trainer = SFTTrainer(model=model, peft_config=adapt.lora_config(setup), **arguments)
        record.census(trainer.model)

    record.train(trainer, adapt.learning_rates(setup))
    with record.at(Stage.AFTER_TRAINING):
        record.census(trainer.model)
        trainer.save_model(str(setup.scratch / "saved"))

    with record.at(Stage.RELOAD):
        base = adapt.load_model(setup)
        record.census(PeftModel.from_pretrained(base, str(setup.scratch / "saved"), is_trainable=True))
