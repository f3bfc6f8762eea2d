"""A name of modules_to_save that matches no module is a mistake, and PEFT says so."""

import warnings

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForSequenceClassification(LlamaConfig(vocab_size=64, num_labels=2, **SIZES))
# Llama calls its head score; other families call it classifier.
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["classifier"]))
trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
said = [str(one.message) for one in warned if "classifier" in str(one.message)]
assert any("q_proj" in name for name in trainable), "the adapter is frozen"
assert said or any("score" in name for name in trainable), "the head is frozen, and nothing says that no module matches"
