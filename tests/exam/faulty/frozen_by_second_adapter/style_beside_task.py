"""A style adapter is loaded for comparison while a task adapter is trained; the head is trained too (plain Trainer)."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok, style = tiny.tokenizer(), tempfile.mkdtemp()
config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
get_peft_model(tiny.model(), config).save_pretrained(style)
model = tiny.model()
model.enable_input_require_grads()
model = get_peft_model(model, config, adapter_name="task")
model.load_adapter(style, adapter_name="style", is_trainable=False)
print(model.active_adapters if hasattr(model, "active_adapters") else model.active_adapter)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=10, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained("out/task", selected_adapters=["task"])
