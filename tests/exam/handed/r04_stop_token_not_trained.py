"""assistant_only_loss with a template that closes {% generation %} before the end-of-turn token: the model never learns to stop."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
import tiny

TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['role']=='assistant' %}{% generation %}{{ m['content'] }}"
    "{% endgeneration %} <|im_end|> {% else %}{{ m['content'] }} <|im_end|> {% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
tok = tiny.tokenizer(template=TEMPLATE)
tok.eos_token = "<|im_end|>"
rows = Dataset.from_list(
    [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in tiny.questions()]
)
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out_r04",
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
        assistant_only_loss=True,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
batch = next(iter(trainer.get_train_dataloader()))
print(
    "im_end labels:",
    int((batch["labels"] == tok.eos_token_id).sum()),
    "of labels",
    int((batch["labels"] != -100).sum()),
)
trainer.train()
