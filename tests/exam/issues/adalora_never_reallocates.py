"""AdaLoRA under Trainer: after the schedule that was asked for, ranks differ between layers."""

import tempfile

import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
schedule = {"init_r": 8, "target_r": 2, "tinit": 1, "tfinal": 2, "deltaT": 1, "total_step": 6}
model = get_peft_model(model, AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], **schedule))
rows = [{"input_ids": list(range(8)), "labels": list(range(8))} for _ in range(6)]
with tempfile.TemporaryDirectory() as folder:
    options = {"per_device_train_batch_size": 1, "max_steps": 6, "report_to": "none", "save_strategy": "no"}
    Trainer(model, TrainingArguments(folder, use_cpu=True, **options), train_dataset=rows).train()
pruned = [float((value == 0).float().mean()) for name, value in model.named_parameters() if "lora_E" in name]
assert any(pruned), (
    "no rank was given back: AdaLoRA trains as LoRA with init_r, because nothing calls update_and_allocate"
)
