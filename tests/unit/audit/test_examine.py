"""Values are followed through variables, functions, modules, files and options, along every path."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_builders import HEAD, LOAD, TRAIN, WRAP, examined, hits, one
from finetune_compat.audit.findings import Status


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


def test_nothing_of_the_project_is_run(tmp_path: Path) -> None:
    """Neither a script, nor a module that it imports, nor a decorator."""
    spoil = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    examined(
        tmp_path, "import models\n" + spoil + "@models.f\ndef g(): ...\n", models__py=spoil + "def f(x): return x\n"
    )
    assert not (tmp_path / "ran").exists()
