"""SGD with momentum and tight clipping, options as YAML."""

import yaml
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

TRAINING = yaml.safe_load("""
output_dir: out
max_steps: 14
learning_rate: 0.05
optim: sgd
max_grad_norm: 1.0e-8
use_cpu: true
bf16: false
report_to: none
logging_steps: 1
save_strategy: "no"
eval_strategy: steps
eval_steps: 7
""")
tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(SFTConfig, dataset_text_field="text", max_seq_length=64, max_length=64, **TRAINING),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    eval_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(16, 1)]),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
