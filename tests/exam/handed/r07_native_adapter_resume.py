"""model.add_adapter (Transformers' own PEFT), Trainer, then resume_from_checkpoint."""

import shutil, glob
from datasets import Dataset
from peft import LoraConfig
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
import torch
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"input_ids": tok(f"{q} {a} <eos>")["input_ids"]} for q, a in tiny.questions()])


def make(out):
    model = tiny.model()
    model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"]))
    return Trainer(
        model=model,
        args=TrainingArguments(
            out, max_steps=8, save_steps=4, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(8)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )


shutil.rmtree("out_r07", ignore_errors=True)
first = make("out_r07")
first.train()
second = make("out_r07")


def norm(m):
    return float(sum(p.detach().abs().sum() for n, p in m.named_parameters() if "lora_B" in n))


seen = {}
from transformers import TrainerCallback


class Look(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kw):
        seen["B at resume"] = norm(model)
        seen["step"] = state.global_step


second.add_callback(Look())
second.train(resume_from_checkpoint=sorted(glob.glob("out_r07/checkpoint-4") or [True])[0])
print("RESUME", seen, "first run B", norm(first.model), "second", norm(second.model))
