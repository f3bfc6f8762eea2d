"""Audits of scripts for tests."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.audit.examine import Examined, examine
from finetune_compat.audit.findings import Finding, Releases, Status
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.checks.ledger import load_ledger

LEDGER = load_ledger()
VERSIONS = {"trl": "0.22.2", "transformers": "4.56.0", "peft": "0.17.1", "bitsandbytes": "0.47.0"}
HEAD = (
    "from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training\n"
    "from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments\n"
    "from trl import SFTConfig, SFTTrainer\n"
)
LOAD = "model = AutoModelForCausalLM.from_pretrained('m', quantization_config=BitsAndBytesConfig(load_in_4bit=True))\n"
WRAP = "model = get_peft_model(model, LoraConfig(task_type='CAUSAL_LM'))\n"
TRAIN = "SFTTrainer(model=model, args=SFTConfig('out')).train()\n"


def releases(**versions: str) -> Releases:
    """The versions of the flagship, others in their place."""
    known = {**VERSIONS, **versions}
    return Releases(known, complete=True, installed=frozenset(known), ledger=LEDGER)


def examined(tmp_path: Path, text: str, versions: Releases | None = None, **others: str) -> Examined:
    """Audit a script `train.py`, with other modules beside it."""
    (tmp_path / "train.py").write_text(text)
    for name, content in others.items():
        (tmp_path / name.replace("__", ".")).write_text(content)
    return examine(tmp_path, versions or releases(), read_signatures())


def hits(found: Examined) -> list[tuple[str, str, int]]:
    return [(one.pattern, one.place.source.shown, one.place.line) for one in found.findings if one.status is Status.HIT]


def one(found: Examined, pattern: str) -> Finding:
    (finding,) = (finding for finding in found.findings if finding.pattern == pattern)
    return finding
