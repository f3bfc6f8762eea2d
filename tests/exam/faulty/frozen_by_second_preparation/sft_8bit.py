"""LoRA over an 8-bit base as in the guides: prepare, get_peft_model, SFTTrainer."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

import tiny

base = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
bnb = BitsAndBytesConfig(load_in_8bit=True)
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=bnb, device_map={"": "cpu"})
model = prepare_model_for_kbit_training(model)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
model.print_trainable_parameters()
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=10,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 3)),
    processing_class=AutoTokenizer.from_pretrained(base),
)
trainer.train()
trainer.save_model("out/final")
