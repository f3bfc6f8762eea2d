"""A reward model with LoRA whose config says CAUSAL_LM: the freshly made score head is neither trained nor saved."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Qwen2ForSequenceClassification
from trl import RewardConfig, RewardTrainer
import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"prompt": q, "chosen": f" {a} sun", "rejected": f" {a} red"} for q, a in tiny.questions()])
model = tiny.model(cls=Qwen2ForSequenceClassification, num_labels=1)
trainer = RewardTrainer(
    model=model,
    args=RewardConfig(
        "out_r17",
        max_steps=10,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
        max_length=64,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(8)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="FEATURE_EXTRACTION", target_modules=["q_proj", "v_proj"]),
)
print("score trainable:", [n for n, p in trainer.model.named_parameters() if "score" in n and p.requires_grad])
trainer.train()
trainer.save_model("out_r17/final")
