"""Two stages: the second goes on where the first one ended."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny

base = tiny.saved("Llama")
tok = AutoTokenizer.from_pretrained(base)
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
rows = Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(80)])


def stage(number, resume):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    if resume:
        model.load_adapter(f"out/stage{number - 1}", adapter_name="previous")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            f"out/run{number}",
            max_steps=14,
            learning_rate=5e-3,
            use_cpu=True,
            report_to="none",
            logging_steps=2,
            save_strategy="no",
        ),
        train_dataset=rows.select(range(64)),
        eval_dataset=rows.select(range(64, 80)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    model.save_pretrained(f"out/stage{number}", selected_adapters=["default"])


stage(1, resume=False)
stage(2, resume=True)
