"""Mixture of experts: the experts' 3-D weights are reached by target_parameters, attention by target_modules."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    DataCollatorForLanguageModeling,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Trainer,
    TrainingArguments,
)

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
torch.manual_seed(0)
base = Qwen3MoeForCausalLM(
    Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=3,
    )
)
model = get_peft_model(
    base,
    LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_dropout=0.0,
        target_modules=["q_proj", "v_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    ),
)
print(len([n for n, _ in model.named_parameters() if "experts" in n and "lora_" in n]), "tensors on the experts")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "experts",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
