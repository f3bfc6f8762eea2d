"""Trains, then loads the adapter frozen for an answer."""

from datasets import load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

NAME = "Qwen/Qwen2.5-0.5B"
tokenizer = AutoTokenizer.from_pretrained(NAME)
trainer = SFTTrainer(
    NAME,
    args=SFTConfig("out"),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM"),
)
trainer.train()
trainer.save_model("out/final")

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(NAME), "out/final")
model.eval()
for parameter in model.parameters():
    parameter.requires_grad = False
print(tokenizer.decode(model.generate(**tokenizer("Hello", return_tensors="pt"))[0]))
