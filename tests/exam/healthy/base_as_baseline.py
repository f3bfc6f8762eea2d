"""The adapter is off inside disable_adapter() while the base is evaluated, and on again afterwards."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()


class Baseline(TrainerCallback):
    """Prints the base model's loss on one row beside the tuned one's."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % 8:
            return
        was = model.training
        model.eval()
        ids = tok(tiny.texts(1, seed=9)[0], return_tensors="pt")["input_ids"]
        with model.disable_adapter():
            base = float(model(input_ids=ids, labels=ids).loss)
        print(state.global_step, "base", base, "tuned", float(model(input_ids=ids, labels=ids).loss))
        model.train(was)


trainer = SFTTrainer(
    model=get_peft_model(tiny.model("Qwen2"), LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear")),
    args=SFTConfig(
        output_dir="baseline",
        max_steps=24,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, seed=1)),
    callbacks=[Baseline()],
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("baseline/adapter")
