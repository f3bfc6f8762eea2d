"""Fine-tune Qwen2-VL on receipts: python scripts/train.py --train data/train.jsonl"""

import argparse

from trl import SFTConfig, SFTTrainer

from vlm.data import conversations
from vlm.loader import apply_lora, load_model, prepare_for_kbit_training


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="Qwen/Qwen2-VL-7B-Instruct")
    parser.add_argument("--train", default="data/train.jsonl")
    parser.add_argument("--eval", default="data/eval.jsonl")
    parser.add_argument("--output", default="out/receipts")
    parser.add_argument("--rank", type=int, default=64)
    args = parser.parse_args()

    model, processor = load_model(args.model)
    model = prepare_for_kbit_training(model)
    model = apply_lora(model, r=args.rank, alpha=2 * args.rank)
    model.print_trainable_parameters()

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=args.output,
            num_train_epochs=3,
            per_device_train_batch_size=2,
            learning_rate=2e-4,
            gradient_checkpointing=True,
            bf16=True,
            logging_steps=10,
            eval_strategy="steps",
            eval_steps=100,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        ),
        train_dataset=conversations(args.train),
        eval_dataset=conversations(args.eval),
        processing_class=processor,
    )
    trainer.train()
    trainer.save_model(args.output)


if __name__ == "__main__":
    main()
