"""Values are followed through variables, functions, modules, files and options, along every path."""

from __future__ import annotations

from pathlib import Path

import pytest
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


class TestHandedOver:
    @pytest.mark.parametrize(
        "way",
        [
            LOAD + WRAP + TRAIN,
            f"def main(base='m'):\n    {'    '.join((LOAD + WRAP + TRAIN).splitlines(keepends=True))}\nmain()\n",
            "class A:\n    def __init__(self, model):\n        "
            + WRAP
            + "        self.m = model\n"
            + LOAD
            + "SFTTrainer(A(model).m, SFTConfig('out')).train()\n",
            "options = dict(load_in_4bit=True)\nload = AutoModelForCausalLM.from_pretrained\n"
            "model = load('m', quantization_config=BitsAndBytesConfig(**options))\n" + WRAP + TRAIN,
            LOAD + WRAP + "class Mine(SFTTrainer):\n    pass\nMine(model=model, args=SFTConfig('out')).train()\n",
            LOAD + WRAP + "class Mine(SFTTrainer):\n    def __init__(self, *args, **kwargs):\n"
            "        super().__init__(*args, **kwargs)\nMine(model=model, args=SFTConfig('out')).train()\n",
            LOAD
            + "model = prepare_model_for_kbit_training(model)\n"
            + WRAP
            + "model.print_trainable_parameters()\n"
            + TRAIN,
        ],
    )
    def test_a_wrapped_quantized_model_is_followed(self, tmp_path: Path, way: str) -> None:
        """However it comes to the trainer."""
        assert [pattern for pattern, *_ in hits(examined(tmp_path, HEAD + way))] == ["wrapped-model"]

    @pytest.mark.parametrize(
        "way",
        [
            LOAD + "SFTTrainer(model, SFTConfig('out'), peft_config=LoraConfig(task_type='CAUSAL_LM')).train()\n",
            "model = AutoModelForCausalLM.from_pretrained('m')\nmodel.enable_input_require_grads()\n" + WRAP + TRAIN,
            LOAD + WRAP + "Trainer(model, TrainingArguments('out')).train()\n",
            LOAD + WRAP + "model = model.merge_and_unload()\n" + TRAIN,
        ],
    )
    def test_what_is_right_is_not_told(self, tmp_path: Path, way: str) -> None:
        """On the same releases."""
        assert hits(examined(tmp_path, HEAD + way)) == []

    def test_releases_decide(self, tmp_path: Path) -> None:
        """Outside the window it is named as not hit; without versions only a run decides."""
        text = HEAD + LOAD + WRAP + TRAIN
        assert one(examined(tmp_path, text, releases(trl="0.23.1")), "wrapped-model").status is Status.NOT_HIT
        nothing = Releases({}, ledger=LEDGER)
        assert one(examined(tmp_path, text, nothing), "wrapped-model").status is Status.RUN

    def test_an_unknown_base_is_for_a_run_to_decide(self, tmp_path: Path) -> None:
        """Nothing says whether it is quantized."""
        text = HEAD + "from elsewhere import load\nmodel = load()\n" + WRAP + TRAIN
        assert one(examined(tmp_path, text), "wrapped-model").status is Status.RUN


class TestPaths:
    def test_a_condition_is_told(self, tmp_path: Path) -> None:
        """With the option that leads there."""
        text = (
            HEAD + "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lora', action='store_true')\n"
            "args = p.parse_args()\n" + LOAD + "if args.lora:\n    " + WRAP + TRAIN
        )
        finding = one(examined(tmp_path, text), "wrapped-model")
        assert (finding.status, finding.when) == (Status.HIT, "args.lora")

    def test_the_same_condition_is_decided_the_same_way(self, tmp_path: Path) -> None:
        """No path wraps the model and hands over a configuration."""
        text = (
            HEAD + "import sys\nmine = len(sys.argv) > 2\nmodel = AutoModelForCausalLM.from_pretrained('m')\n"
            "model.enable_input_require_grads()\nconfig = LoraConfig(task_type='CAUSAL_LM')\n"
            "if mine:\n    model = get_peft_model(model, config)\n"
            "SFTTrainer(model, SFTConfig('out'), peft_config=None if mine else config).train()\n"
        )
        assert [one.pattern for one in examined(tmp_path, text).findings] == []

    def test_a_path_that_raises_trains_nothing(self, tmp_path: Path) -> None:
        """The script refuses that combination."""
        text = (
            HEAD + LOAD + WRAP + "if hasattr(model, 'peft_config'):\n    raise SystemExit('no')\n" + "exit()\n" + TRAIN
        )
        assert hits(examined(tmp_path, text)) == []

    def test_a_script_of_many_conditions_ends(self, tmp_path: Path) -> None:
        """The number of paths is limited."""
        text = HEAD + "import os\n" + "".join(f"if os.environ.get('A{n}'):\n    x{n} = 1\n" for n in range(40))
        assert hits(examined(tmp_path, text + LOAD + WRAP + TRAIN)) == [("wrapped-model", "train.py", 87)]


class TestModulesAndFiles:
    def test_a_module_of_the_project(self, tmp_path: Path) -> None:
        """The places in it are parts of the finding."""
        module = HEAD + f"def load():\n    {LOAD}    {WRAP}    return model\n"
        finding = one(
            examined(tmp_path, HEAD + "import models\nmodel = models.load()\n" + TRAIN, models__py=module),
            "wrapped-model",
        )
        assert {(part.source.shown, part.line) for part in finding.parts} >= {("models.py", 5), ("models.py", 6)}

    @pytest.mark.parametrize("name", ["recipe.yaml", "recipe.json"])
    def test_options_in_a_file(self, tmp_path: Path, name: str) -> None:
        """YAML, or JSON."""
        text = (
            HEAD + "import yaml\nfrom pathlib import Path\n"
            f"recipe = yaml.safe_load(open(Path(__file__).parent / '{name}'))\n"
            "model = AutoModelForCausalLM.from_pretrained('m')\n"
            "Trainer(get_peft_model(model, LoraConfig(**recipe['lora'])), TrainingArguments('out')).train()\n"
        )
        content = '{"lora": {"task_type": "CAUSAL_LM", "inference_mode": true}}'
        found = examined(tmp_path, text, **{name.replace(".", "__"): content})
        assert "inference-mode" in [pattern for pattern, *_ in hits(found)]

    def test_dataclass_options(self, tmp_path: Path) -> None:
        """With the default of the field."""
        text = (
            HEAD + "from dataclasses import dataclass, field\nfrom transformers import HfArgumentParser\n@dataclass\n"
            "class Options:\n    bits: bool = field(default=True)\n"
            "(options,) = HfArgumentParser(Options).parse_args_into_dataclasses()\n"
            "model = AutoModelForCausalLM.from_pretrained('m', load_in_4bit=options.bits)\n" + WRAP + TRAIN
        )
        assert [pattern for pattern, *_ in hits(examined(tmp_path, text))] == ["wrapped-model"]

    def test_a_function_that_nothing_calls_is_read_too(self, tmp_path: Path) -> None:
        """An entry point of a package, or of fire."""
        text = HEAD + "def main():\n" + "".join(f"    {line}\n" for line in (LOAD + WRAP + TRAIN).splitlines())
        assert [pattern for pattern, *_ in hits(examined(tmp_path, text))] == ["wrapped-model"]

    def test_a_file_outside_the_project_is_not_read(self, tmp_path: Path) -> None:
        """Its content is unknown."""
        (tmp_path / "outside.yaml").write_text("load_in_4bit: true\n")
        inside = tmp_path / "inside"
        inside.mkdir()
        text = (
            HEAD
            + "import yaml\noptions = yaml.safe_load(open('../outside.yaml'))\n"
            + "model = AutoModelForCausalLM.from_pretrained('m', **options)\n"
        )
        assert one(examined(inside, text + WRAP + TRAIN), "wrapped-model").status is Status.RUN


class TestArguments:
    def test_a_removed_argument_has_its_new_name(self, tmp_path: Path) -> None:
        """From the signatures of both releases."""
        text = HEAD + "SFTConfig('out', max_seq_length=8)\n"
        finding = one(examined(tmp_path, text), "removed-argument")
        assert finding.why == "SFTConfig of TRL 0.22.2 with Transformers 4.56.0 has no max_seq_length: use max_length"
        assert hits(examined(tmp_path, text, releases(trl="0.19.1", transformers="4.54.1"))) == []

    def test_an_argument_that_no_release_had_is_not_told(self, tmp_path: Path) -> None:
        """It may be one of the project's own class."""
        assert hits(examined(tmp_path, HEAD + "SFTConfig('out', my_own=8)\n")) == []

    def test_code_that_asks_for_the_release_is_believed(self, tmp_path: Path) -> None:
        """It is read with that release."""
        text = (
            HEAD + "import trl\nfrom packaging.version import Version\n"
            "if Version(trl.__version__) < Version('0.20'):\n    SFTConfig('out', max_seq_length=8)\n"
        )
        assert hits(examined(tmp_path, text)) == []

    def test_a_removed_name_in_a_try_is_not_told(self, tmp_path: Path) -> None:
        """The script is ready for both."""
        name = "from trl import DataCollatorForCompletionOnlyLM\n"
        assert [pattern for pattern, *_ in hits(examined(tmp_path, name))] == ["removed-name"]
        assert hits(examined(tmp_path, f"try:\n    {name}except ImportError:\n    pass\n")) == []


def test_nothing_of_the_project_is_run(tmp_path: Path) -> None:
    """Neither a script, nor a module that it imports, nor a decorator."""
    spoil = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    examined(
        tmp_path, "import models\n" + spoil + "@models.f\ndef g(): ...\n", models__py=spoil + "def f(x): return x\n"
    )
    assert not (tmp_path / "ran").exists()
