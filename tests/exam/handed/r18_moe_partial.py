"""Mixture of experts whose experts are 3-D parameters: the usual target list reaches attention only."""

from datasets import Dataset
from peft import LoraConfig
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
import torch
from trl import SFTConfig, SFTTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": f"{q} {a}"} for q, a in tiny.questions()])
torch.manual_seed(0)
model = Qwen3MoeForCausalLM(
    Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        head_dim=8,
        pad_token_id=1,
        eos_token_id=2,
        bos_token_id=3,
    )
)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out_r18", max_steps=10, learning_rate=1e-2, use_cpu=True, bf16=False, report_to="none", logging_steps=5
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
)
print(sorted({n.split(".lora_")[0].split(".")[-1] for n, p in trainer.model.named_parameters() if "lora_" in n}))
trainer.train()
