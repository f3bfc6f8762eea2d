"""Two methods are compared in one script, each on a fresh model: LoHa, then LoKr."""

import tiny
from datasets import Dataset
from peft import LoHaConfig, LoKrConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
scores = {}
for config in (
    LoHaConfig(task_type="CAUSAL_LM", r=8, alpha=8, target_modules=["q_proj", "v_proj", "up_proj"]),
    LoKrConfig(task_type="CAUSAL_LM", r=8, alpha=8, target_modules=["q_proj", "v_proj", "up_proj"]),
):
    set_seed(3)
    model = get_peft_model(tiny.model("Llama"), config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            f"out-{config.peft_type.value.lower()}",
            max_steps=25,
            learning_rate=2e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            save_strategy="no",
        ),
        train_dataset=rows.select(range(64)),
        eval_dataset=rows.select(range(64, 80)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    scores[config.peft_type.value] = trainer.evaluate()["eval_loss"]
print(scores)
