"""Chat rows of three turns, learned whole: user's words are labels too, which is the default and meant."""

import tiny
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer(eos="<|im_end|>")


def conversations(n, seed):
    for question, answer in tiny.questions(n, seed):
        yield {
            "messages": [
                {"role": "system", "content": "good answer"},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }


model = tiny.model("Mistral", eos_token_id=tok.eos_token_id)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="chat",
        num_train_epochs=3,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(list(conversations(64, 0))),
    eval_dataset=Dataset.from_list(list(conversations(16, 1))),
    processing_class=tok,
)
trainer.train()
