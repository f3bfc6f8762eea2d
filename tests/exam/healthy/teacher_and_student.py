"""Distillation in a compute_loss of the user's own: the teacher is frozen and evaluated, only the student trains."""

import tiny
import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
collate = DataCollatorForLanguageModeling(tok, mlm=False)


def arguments(out, **more):
    return TrainingArguments(
        out,
        max_steps=24,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        save_strategy="no",
        **more,
    )


class Distil(Trainer):
    def __init__(self, *args, teacher, temperature=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature = temperature

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        with torch.no_grad():
            aim = self.teacher(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        real = inputs["labels"] != -100
        t = self.temperature
        soft = F.kl_div(
            F.log_softmax(outputs.logits[real] / t, -1), F.softmax(aim[real] / t, -1), reduction="batchmean"
        )
        loss = 0.5 * outputs.loss + 0.5 * t * t * soft
        return (loss, outputs) if return_outputs else loss


teacher = tiny.model("Llama", num_hidden_layers=3)
Trainer(model=teacher, args=arguments("teacher"), train_dataset=rows, data_collator=collate).train()
student = Distil(
    model=tiny.model("Llama", num_hidden_layers=1, seed=1),
    args=arguments("student", eval_strategy="steps", eval_steps=12),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=collate,
    teacher=teacher,
)
student.train()
print(student.evaluate())
