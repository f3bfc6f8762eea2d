"""DoRA with dropout and gaussian start: the magnitude vectors start at the norm of the weights and barely move."""

import argparse

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", default="dora")
    options = parser.parse_args(argv)

    tok = tiny.tokenizer()
    rows = [dict(tok(text + " <eos>")) for text in tiny.texts(72)]
    model = get_peft_model(
        tiny.model("Mistral"),
        LoraConfig(
            r=options.rank,
            lora_alpha=2 * options.rank,
            lora_dropout=0.1,
            use_dora=True,
            task_type="CAUSAL_LM",
            init_lora_weights="gaussian",
            target_modules=["q_proj", "o_proj", "up_proj"],
        ),
    )
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            options.out,
            max_steps=options.steps,
            learning_rate=4e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=6,
            eval_strategy="steps",
            eval_steps=12,
            save_steps=12,
        ),
        train_dataset=Dataset.from_list(rows[:64]),
        eval_dataset=Dataset.from_list(rows[64:]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
