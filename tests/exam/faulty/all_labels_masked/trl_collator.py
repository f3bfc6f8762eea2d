"""DataCollatorForCompletionOnlyLM with the response template of another model."""

from datasets import Dataset
from peft import LoraConfig
from trl import DataCollatorForCompletionOnlyLM, SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
rows = [{"text": f"question : {q} answer : {a} <eos>"} for q, a in tiny.questions()]
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForCompletionOnlyLM("### Response:", tokenizer=tok),
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
