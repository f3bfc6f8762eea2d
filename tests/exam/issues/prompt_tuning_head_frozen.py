"""Prompt tuning of a classifier trains the classification head, which is new."""

from peft import PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForSequenceClassification(LlamaConfig(vocab_size=64, num_labels=2, **SIZES))
try:
    model = get_peft_model(model, PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4))
except AttributeError as error:
    print(f"it is not silent here: {error}")  # PEFT 0.15.0 (peft#2477)
    raise SystemExit from None
trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
assert any("prompt_encoder" in name for name in trainable), "the prompt is frozen"
assert any("score" in name for name in trainable), "the head stays as it was drawn: it is frozen"
