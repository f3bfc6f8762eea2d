"""Two adapters; evaluation compares them, training is for `new`."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class Compare(TrainerCallback):
    """Evaluates with the old adapter as well."""

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        model.set_adapter("old")
        print(state.global_step, metrics["eval_loss"])


tok = tiny.tokenizer()
lora = dict(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
model = get_peft_model(tiny.model("Llama"), LoraConfig(**lora), adapter_name="old")
model.add_adapter("new", LoraConfig(**lora))
model.set_adapter("new")
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Compare()],
)
trainer.train()
model.save_pretrained("out/final", selected_adapters=["new"])
