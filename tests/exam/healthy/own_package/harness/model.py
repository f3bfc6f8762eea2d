import tiny
from peft import LoraConfig, get_peft_model


def build():
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"])
    return get_peft_model(tiny.model("Llama"), config)
