"""Two adapters on one base are trained one after the other, each by a trainer of its own; then both are kept."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


def lora(rank):
    return LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])


class Skills:
    def __init__(self):
        self.model = get_peft_model(tiny.model("Llama"), lora(8), adapter_name="forwards")
        self.model.add_adapter("backwards", lora(4))

    def learn(self, skill, texts):
        self.model.set_adapter(skill)
        rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in texts])
        trainer = Trainer(
            model=self.model,
            args=TrainingArguments(
                f"skills/{skill}",
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
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        print(skill, before, "->", trainer.evaluate()["eval_loss"])


skills = Skills()
skills.learn("forwards", tiny.texts(64))
skills.learn("backwards", [" ".join(reversed(text.split())) for text in tiny.texts(64)])
skills.model.save_pretrained("skills/saved")
