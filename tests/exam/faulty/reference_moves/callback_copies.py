"""KTO; a callback renews the reference."""

from datasets import Dataset
from transformers import TrainerCallback
from trl import KTOConfig, KTOTrainer

import tiny


class Renew(TrainerCallback):
    """The reference shall be the model of the last evaluation."""

    def __init__(self, reference):
        self.reference = reference

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.reference.load_state_dict(model.state_dict())


tok = tiny.tokenizer()
reference = tiny.model()
trainer = KTOTrainer(
    model=tiny.model(),
    ref_model=reference,
    args=KTOConfig(
        "out",
        max_steps=10,
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.opinion_rows()),
    processing_class=tok,
    callbacks=[Renew(reference)],
)
trainer.train()
