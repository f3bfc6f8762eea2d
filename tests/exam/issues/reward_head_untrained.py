"""LoRA without task_type on a classifier: the head, which was drawn at random, is trained."""

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForSequenceClassification(LlamaConfig(vocab_size=64, num_labels=1, **SIZES))
model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
assert any("score" in name for name in trainable), "the head stays as it was drawn: it is frozen"
