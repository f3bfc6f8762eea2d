"""PiSSA; a callback saves with conversion to plain LoRA at step 3, after which nothing trains (PEFT 0.18.1 and later)."""

import os, shutil
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{q} {a}"} for q, a in tiny.questions()])
model = get_peft_model(
    tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights="pissa")
)
shutil.rmtree("out_r08b", ignore_errors=True)
model.peft_config["default"].init_lora_weights = True
model.save_pretrained("out_r08b/initial")
model.peft_config["default"].init_lora_weights = "pissa"


class SaveConverted(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kw):
        if state.global_step == 3:
            model.save_pretrained("out_r08b/converted", path_initial_model_for_weight_conversion="out_r08b/initial")
        print("step", state.global_step, "trainable", sum(p.numel() for p in model.parameters() if p.requires_grad))


trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out_r08b/run",
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": True},
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    callbacks=[SaveConverted()],
)
trainer.train()
