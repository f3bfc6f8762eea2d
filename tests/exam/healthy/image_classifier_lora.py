"""No tokenizer at all: a tiny ViT with LoRA and a new classifier, as PEFT's image classification example has it."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

torch.manual_seed(0)


class Patches(torch.utils.data.Dataset):
    """Images whose class is the quarter that is bright."""

    def __init__(self, n, seed):
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 4, (n,), generator=draw)
        self.images = 0.2 * torch.randn(n, 3, 16, 16, generator=draw)
        for image, label in zip(self.images, self.labels):
            row, column = divmod(int(label), 2)
            image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"pixel_values": self.images[i], "labels": self.labels[i]}


base = ViTForImageClassification(
    ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=4,
    )
)
model = get_peft_model(
    base,
    LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=r".*(query|value|q_proj|v_proj)",
        lora_dropout=0.1,
        bias="none",
        modules_to_save=["classifier"],
    ),
)
model.print_trainable_parameters()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "vit",
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        use_cpu=True,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
    ),
    train_dataset=Patches(96, 0),
    eval_dataset=Patches(24, 1),
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
)
trainer.train()
model.save_pretrained("vit/adapter")
