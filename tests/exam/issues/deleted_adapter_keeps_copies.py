"""A deleted adapter leaves no trained copy of a module behind."""

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForSequenceClassification(LlamaConfig(vocab_size=64, num_labels=2, **SIZES))
config = LoraConfig(r=4, task_type="SEQ_CLS", target_modules=["q_proj"])
model = get_peft_model(model, config, adapter_name="first")
model.add_adapter("second", config)
model.delete_adapter("second")
left = [name for name, _ in model.named_parameters() if ".second." in name]
assert not left, f"{len(left)} tensors of the deleted adapter are left: {left[0]}"
