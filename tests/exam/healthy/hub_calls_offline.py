"""The script logs in and pushes its adapter; here both calls are replaced, as a test without network does it."""

from unittest import mock

import tiny
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

with mock.patch("huggingface_hub.login") as login, mock.patch.object(PeftModel, "push_to_hub") as push:
    import huggingface_hub

    huggingface_hub.login(token="hf_not_a_token")
    tok = tiny.tokenizer()
    rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
    model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "pushed",
            max_steps=16,
            learning_rate=4e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=4,
            save_strategy="no",
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    model.push_to_hub("someone/tiny-adapter", private=True)
print("logged in:", login.called, "pushed to:", push.call_args.args[0])
