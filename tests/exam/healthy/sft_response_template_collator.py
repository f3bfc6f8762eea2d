"""The old way: DataCollatorForCompletionOnlyLM masks all that stands before the response template."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import DataCollatorForCompletionOnlyLM, SFTConfig, SFTTrainer

tok = tiny.tokenizer()


def formatted(rows):
    return Dataset.from_list([{"text": f"question : {q} answer : {a} <eos>"} for q, a in rows])


trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        output_dir="template",
        max_steps=24,
        learning_rate=1e-2,
        dataset_text_field="text",
        max_seq_length=64,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=formatted(tiny.questions(64)),
    eval_dataset=formatted(tiny.questions(16, seed=1)),
    data_collator=DataCollatorForCompletionOnlyLM("answer :", tokenizer=tok),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
print(trainer.evaluate())
