"""Tool calls have tokens of their own."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

NAME = "Qwen/Qwen2.5-1.5B"
tokenizer = AutoTokenizer.from_pretrained(NAME)
tokenizer.add_special_tokens({"additional_special_tokens": ["<call>", "</call>", "<result>", "</result>"]})
model = AutoModelForCausalLM.from_pretrained(NAME)
model.resize_token_embeddings(len(tokenizer))
trainer = SFTTrainer(
    model,
    args=SFTConfig("out"),
    train_dataset=load_dataset("json", data_files="calls.jsonl", split="train"),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
)
trainer.train()
