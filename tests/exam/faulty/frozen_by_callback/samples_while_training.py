"""A few generated samples every five steps, to see how it goes."""

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()


def for_inference(model):
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model


class Samples(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % 5:
            return
        model = for_inference(model)
        prompt = tok("w1 w2 w3", return_tensors="pt")
        out = model.generate(**prompt, max_new_tokens=4, do_sample=False, pad_token_id=tok.pad_token_id)
        print(state.global_step, tok.decode(out[0]))
        model.train()


trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out",
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
    callbacks=[Samples()],
)
trainer.train()
trainer.save_model("out/final")
