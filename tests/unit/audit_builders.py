"""Audits of scripts for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finetune_compat.audit.examine import Examined, examine
from finetune_compat.audit.findings import Finding, Releases, Status
from finetune_compat.audit.interpreter import Path as Followed
from finetune_compat.audit.library import Knowledge
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import Const, Items, Place, Table, Value
from finetune_compat.checks.ledger_file import load_ledger

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


def source(text: str, name: str = "train.py", root: Path = Path()) -> Source:
    """A script."""
    return Source(root / name, name, text)


@dataclass
class Decided:
    """Takes every unknown condition the same way, and remembers what it was asked."""

    way: bool = True
    asked: list[tuple[str, bool, bool]] = field(default_factory=list)
    """Each condition, the branch that is to be tried first, and whether it follows from defaults."""

    def take(self, key: str, place: Place, first: bool, default: bool) -> bool:
        """Decide one condition."""
        self.asked.append((key, first, default))
        return self.way


def path_of(decisions: Decided | None = None, root: Path = Path(), **modules: str) -> Followed:
    """A path without a step, in a project with these modules."""

    def find(name: str, importing: Source, level: int) -> Source | None:
        return source(modules[name], f"{name}.py") if name in modules else None

    return Followed(decisions or Decided(), Knowledge(read_signatures(), VERSIONS, root), find, VERSIONS)


def value_of(text: str, name: str = "x", path: Followed | None = None, root: Path = Path()) -> Value | None:
    """What is known of a name after a script."""
    return (path or path_of(root=root)).run(source(text, root=root)).scope.find(name)


def plain(value: Value | None) -> object:
    """A known value as Python has it, with lists for all sequences; the class of an unknown one."""
    if isinstance(value, Const):
        return value.value
    if isinstance(value, Items):
        return [plain(one) for one in value.items]
    if isinstance(value, Table):
        return {key: plain(one) for key, one in value.items.items()}
    return type(value)


def followed(program: str) -> object:
    """The value of `x` after a program of which everything is known."""
    decisions = Decided()
    found = plain(value_of(program, path=path_of(decisions)))
    assert decisions.asked == []
    return found


def computed(program: str) -> object:
    """The value of `x` as Python computes it, with lists for tuples."""
    names: dict[str, object] = {}
    exec(program, names)  # noqa: S102 - a program of a test
    return _listed(names["x"])


def _listed(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_listed(one) for one in value]
    return {key: _listed(one) for key, one in value.items()} if isinstance(value, dict) else value
