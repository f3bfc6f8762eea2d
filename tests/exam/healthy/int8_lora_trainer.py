"""An 8-bit base, prepared by hand once, with LoRA under the plain Trainer."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

where = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
tok = AutoTokenizer.from_pretrained(where)
model = AutoModelForCausalLM.from_pretrained(
    where, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map={"": "cpu"}
)
model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]))
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "int8",
        max_steps=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
