"""PiSSA, converted to plain LoRA every few steps."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights="pissa")
)
model.peft_config["default"].init_lora_weights = True
model.save_pretrained("out/initial")
model.peft_config["default"].init_lora_weights = "pissa"


class Convert(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 4:
            model.save_pretrained("out/converted", path_initial_model_for_weight_conversion="out/initial")


trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out/run",
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": True},
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 2)),
    processing_class=tok,
    callbacks=[Convert()],
)
trainer.train()
