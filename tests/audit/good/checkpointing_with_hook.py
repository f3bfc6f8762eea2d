"""LoRA with gradient checkpointing and the inputs' gradients on."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B", torch_dtype="bfloat16")
model.gradient_checkpointing_enable()
model.enable_input_require_grads()
model.config.use_cache = False
model = get_peft_model(model, LoraConfig(r=32, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj"]))
training = TrainingArguments(output_dir="out", per_device_train_batch_size=1, bf16=True, num_train_epochs=1)
Trainer(model=model, args=training, train_dataset=load_dataset("json", data_files="t.jsonl", split="train")).train()
