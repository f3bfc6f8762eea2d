"""Right: a frozen SFT adapter stays beside a new one that is added, made active and trained."""

import shutil
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
import tiny

shutil.rmtree("out_h11", ignore_errors=True)
tok = tiny.tokenizer()
rows = Dataset.from_list([{"input_ids": tok(f"{q} {a} <eos>")["input_ids"]} for q, a in tiny.questions()])
get_peft_model(
    tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False)
).save_pretrained("out_h11/sft")
model = PeftModel.from_pretrained(tiny.model(), "out_h11/sft", adapter_name="sft")
model.add_adapter("task", LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
model.set_adapter("task")
print(
    "trainable tensors:",
    {n: sum(p.requires_grad for k, p in model.named_parameters() if f".{n}." in k) for n in ("sft", "task")},
)
before = {k: p.detach().clone() for k, p in model.named_parameters()}
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out_h11/run",
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
changed = {
    n: sum(not before[k].equal(p) for k, p in model.named_parameters() if f".{n}." in k) for n in ("sft", "task")
}
print(
    "changed tensors:",
    changed,
    "base changed:",
    sum(not before[k].equal(p) for k, p in model.named_parameters() if "lora_" not in k),
)
