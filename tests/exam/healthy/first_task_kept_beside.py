"""Two tasks, an adapter for each: the first one is loaded beside the second, which is trained on other rows."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

base = tiny.saved("Llama")
tok = tiny.tokenizer()
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)


def learn(task, texts, beside=()):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora, adapter_name=task)
    for other in beside:
        model.load_adapter(f"adapters/{other}", adapter_name=other)
    rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in texts])
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            f"runs/{task}",
            max_steps=16,
            learning_rate=5e-3,
            use_cpu=True,
            report_to="none",
            logging_steps=4,
            save_strategy="no",
        ),
        train_dataset=rows.select(range(64)),
        eval_dataset=rows.select(range(64, 80)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    model.save_pretrained("adapters", selected_adapters=[task])


learn("forwards", tiny.texts(80))
learn("backwards", [" ".join(reversed(text.split())) for text in tiny.texts(80)], beside=["forwards"])
