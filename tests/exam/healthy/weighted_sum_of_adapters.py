"""Two adapters are trained in turn, added up by add_weighted_adapter, and the sum is trained a little further."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
collator = DataCollatorForLanguageModeling(tok, mlm=False)


def config():
    return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])


def train(model, seed, steps):
    rows = Dataset.from_list([dict(tok(f"{text} <eos>")) for text in tiny.texts(48, seed)])
    args = TrainingArguments(
        f"stage-{seed}",
        max_steps=steps,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    )
    Trainer(model=model, args=args, train_dataset=rows, data_collator=collator).train()


model = get_peft_model(tiny.model("Llama"), config(), adapter_name="first")
train(model, 0, 16)
model.add_adapter("second", config())
model.set_adapter("second")
train(model, 1, 16)
model.add_weighted_adapter(["first", "second"], [0.5, 0.5], "both", combination_type="linear")
model.set_adapter("both")
for name, parameter in model.named_parameters():
    parameter.requires_grad_(".both." in name)
train(model, 2, 12)
model.save_pretrained("sum", selected_adapters=["both"])
