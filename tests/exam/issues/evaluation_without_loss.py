"""An evaluation of a PeftModel has a loss, also where the adapter has no task_type."""

import tempfile

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
rows = [{"input_ids": list(range(8)), "labels": list(range(8))} for _ in range(2)]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(folder, use_cpu=True, report_to="none")
    metrics = Trainer(model, arguments, eval_dataset=rows).evaluate()
assert "eval_runtime" in metrics, "nothing was evaluated"
assert "eval_loss" in metrics, "the evaluation has no eval_loss"
