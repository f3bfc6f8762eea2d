"""Go on training a saved adapter (plain Trainer)."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok, base, adapter = tiny.tokenizer(), tiny.saved("Mistral"), tempfile.mkdtemp()
get_peft_model(
    AutoModelForCausalLM.from_pretrained(base),
    LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False),
).save_pretrained(adapter)

model = AutoModelForCausalLM.from_pretrained(base)
model.enable_input_require_grads()
model = PeftModel.from_pretrained(model, adapter)
model.print_trainable_parameters()
rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=10,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
