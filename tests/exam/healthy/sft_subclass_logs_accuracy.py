"""A subclass of SFTTrainer adds an auxiliary loss and logs it; formatting_func makes the text."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()


class ZLoss(SFTTrainer):
    """Keeps the logits' normaliser near 0, as some pre-training recipes do."""

    factor = 1e-4

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        extra = self.factor * outputs.logits.logsumexp(-1).pow(2).mean()
        self.last_extra = extra.item()
        return (loss + extra, outputs) if return_outputs else loss + extra

    def log(self, logs, *args, **kwargs):
        if hasattr(self, "last_extra"):
            logs["z_loss"] = self.last_extra
        super().log(logs, *args, **kwargs)


trainer = ZLoss(
    model=tiny.model("Qwen2"),
    args=tiny.known(
        SFTConfig,
        output_dir="zloss",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
        loss_type="nll",
    ),
    train_dataset=Dataset.from_list([{"q": q, "a": a} for q, a in tiny.questions(64)]),
    eval_dataset=Dataset.from_list([{"q": q, "a": a} for q, a in tiny.questions(16, seed=1)]),
    formatting_func=lambda row: f"question {row['q']} answer {row['a']} <eos>",
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
print(trainer.evaluate())
