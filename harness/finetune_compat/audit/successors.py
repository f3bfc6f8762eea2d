"""What replaced an argument that was removed, as the releases themselves say in their warnings. Data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_OF_TRAINING: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "warmup_ratio": "warmup_steps with a number below 1",
    "group_by_length": 'train_sampling_strategy="group_by_length"',
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "push_to_hub_token": "hub_token",
    "push_to_hub_model_id": "hub_model_id",
    "adafactor": 'optim="adafactor"',
    "tokenizer": "processing_class",
    "max_seq_length": "max_length",
    "use_liger": "use_liger_kernel",
    "use_liger_loss": "use_liger_kernel",
    "vllm_guided_decoding_regex": "vllm_structured_outputs_regex",
    "wandb_log_unique_prompts": "log_unique_prompts",
    "dataset_text_field": "dataset_text_field of SFTConfig",
    "packing": "packing of SFTConfig",
    "dataset_num_proc": "dataset_num_proc of SFTConfig",
    "dataset_kwargs": "dataset_kwargs of SFTConfig",
    "neftune_noise_alpha": "neftune_noise_alpha of SFTConfig",
    "model_init_kwargs": "model_init_kwargs of the configuration",
    "beta": "beta of DPOConfig",
    "max_length": "max_length of the configuration",
    "max_prompt_length": "max_length, or rows whose prompts are cut beforehand",
}


def successor(name: str, argument: str, accepted: Sequence[str]) -> str:
    """What to use in place of `argument` of the callable `name`; empty if nothing is known.

    A plain name is one of `accepted`.
    """
    new = _OF_TRAINING.get(argument, "")
    if name.endswith("Trainer") and argument == "max_seq_length":
        return "max_length of SFTConfig" if "max_length" not in accepted else "max_length"
    return new if not new.isidentifier() or new in accepted else ""
