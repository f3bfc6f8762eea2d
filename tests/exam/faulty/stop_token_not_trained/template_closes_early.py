"""Chat rows, loss on the assistant's words only, with our own chat template."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}{% endgeneration %} <|im_end|> "
    "{% else %}{{ m['content'] }} <|im_end|> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
tok = tiny.tokenizer(template=TEMPLATE, eos="<|im_end|>")
rows = Dataset.from_list(tiny.chat_rows())
trainer = SFTTrainer(
    model=tiny.model(eos_token_id=tok.eos_token_id),
    args=SFTConfig(
        output_dir="out",
        max_steps=16,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        assistant_only_loss=True,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=Dataset.from_list(tiny.chat_rows(16, 3)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
