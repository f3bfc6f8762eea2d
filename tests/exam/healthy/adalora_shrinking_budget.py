"""AdaLoRA: the rank budget shrinks during the run, so that singular values become exactly 0 and stay there."""

import tiny
from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

STEPS = 40
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = get_peft_model(
    tiny.model("Llama"),
    AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=8,
        target_r=3,
        tinit=6,
        tfinal=10,
        deltaT=2,
        total_step=STEPS,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj", "up_proj"],
    ),
)


class Budget(TrainerCallback):
    """The gradients are needed, so this runs before they are cleared."""

    def on_optimizer_step(self, args, state, control, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "adalora",
        max_steps=STEPS,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Budget()],
)
trainer.train()
print(trainer.evaluate())
kept = sum(int((p != 0).sum()) for n, p in model.named_parameters() if "lora_E" in n)
print("singular values kept:", kept)
