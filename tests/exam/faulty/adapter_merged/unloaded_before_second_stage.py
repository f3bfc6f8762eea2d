"""Stage one is merged into the base; stage two trains the same object further with SFT."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import tiny

base, stage_one = tiny.saved("Llama"), tempfile.mkdtemp()
tok = AutoTokenizer.from_pretrained(base)
get_peft_model(
    AutoModelForCausalLM.from_pretrained(base),
    LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_lora_weights=False),
).save_pretrained(stage_one)

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), stage_one, is_trainable=True)
model.merge_adapter()
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=tok,
)
trainer.train()
trainer.save_model("out/final")
