"""Scripts for upstream issues: complete, and without a name of this project."""

from __future__ import annotations

import ast

import pytest
from finetune_compat.bisect.reproduction import reproduction
from finetune_compat.contract.catalog import CATALOG, FEED_FORWARD, STEPS, TRAINED_TOKENS

CELLS = [f"{flow.name}[{variant}]" for flow in CATALOG for variant in flow.variants]
WITH_SCRIPT = [cell for cell in CELLS if reproduction(cell)]


def test_every_cell_of_text_has_one() -> None:
    """Pictures would need a processor and a collator of the script's own."""
    assert {cell for cell in CELLS if cell not in WITH_SCRIPT} == {cell for cell in CELLS if "-vl" in cell}


@pytest.mark.parametrize("cell", WITH_SCRIPT)
def test_it_is_complete(cell: str) -> None:
    """Every name is a builtin, or is imported or assigned in the script."""
    text = reproduction(cell)
    tree = ast.parse(text)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {*dir(__builtins__), *__builtins__}  # type: ignore[misc]
    known |= {alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, "names", [])}
    known |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert {node.id for node in names if isinstance(node.ctx, ast.Load)} <= known
    imported = {alias.name for node in tree.body for alias in getattr(node, "names", [])}
    assert imported <= {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assert not [word for word in ("finetune_compat", "setup", "record", "adapt.") if word in text]


def test_the_flagship_reads_like_a_users_script() -> None:
    text = reproduction("sft-peft-model[qwen2-int8-gc]")
    assert "load_in_8bit=True" in text
    assert (
        "model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)\nshow('prepare', model)"
        in text
    )
    assert "trainer = SFTTrainer(model=model, **arguments())\nshow('trainer', trainer.model)" in text
    assert "prepare_model_for_kbit_training(model" not in reproduction("sft-peft-model[qwen2-full-gc]")


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("sft-dora[qwen2-full-nogc]", "LoraConfig(**lora_options(), use_dora=True)"),
        ("sft-modules-to-save[qwen2-full-nogc]", "modules_to_save=['embed_tokens', 'lm_head'])"),
        ("sft-trainable-tokens[qwen2-full-nogc]", f"{{'embed_tokens': list({TRAINED_TOKENS})}}"),
        ("sft-pissa[qwen2-full-nogc]", f"arguments['args'].save_steps = {STEPS} // 2"),
        ("sft-ia3[qwen2-full-nogc]", f"feedforward_modules=['{FEED_FORWARD}']"),
        ("sft-ia3[qwen2-full-nogc]", "rate = FASTER * rate\nmodel = load_model()"),
        ("sft-vera[qwen2-full-nogc]", "VeraConfig(r=8, target_modules=targets"),
        ("sft-defaults[qwen2-full-nogc]", "configured(SFTConfig, {name: asked[name] for name in OPTIONS})"),
        ("dpo-adapter-named[qwen2-full-nogc]", "get_peft_model(model, lora_config(), adapter_name=NAME)"),
        ("reward-peft-config[qwen2-nf4-gc]", "Qwen2ForSequenceClassification.from_pretrained("),
        ("reward-peft-config[qwen2-nf4-gc]", '"task_type": "SEQ_CLS", "modules_to_save": ["score"]'),
        ("rft-labels-masked[qwen2-full-nogc]", "without_labels(arguments['train_dataset'])"),
        ("sft-peft-config[qwen2-nf4-bf16-gc]", "bnb_4bit_compute_dtype=torch.bfloat16"),
    ],
)
def test_what_makes_a_flow_is_in_its_script(cell: str, wanted: str) -> None:
    assert wanted in reproduction(cell)


def test_a_loss_is_printed_only_where_it_says_something() -> None:
    """The loss of completions that the model generates is about 0, whatever the model is."""
    assert reproduction("sft-dora[qwen2-full-nogc]").count("trainer.evaluate()") == 2
    assert "trainer.evaluate()" not in reproduction("grpo-peft-config[qwen2-full-nogc]")
