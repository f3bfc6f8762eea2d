"""Every path through a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit_builders import HEAD, LOAD, TRAIN, WRAP, examined, hits, one, path_of, source
from finetune_compat.audit.findings import Status
from finetune_compat.audit.interpreter import Path as Followed
from finetune_compat.audit.paths import Plan, walk


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


def walked(text: str, functions: Sequence[str] = (), most: int = 48) -> list[tuple[list[bool], bool, list[str]]]:
    """Each path: its decisions, whether it ends early, and the library calls on it."""

    def make(plan: Plan) -> Followed:
        path = path_of()
        path.decisions = plan
        return path

    return [
        ([choice.taken for choice in one.choices], one.ended, [name for name, _ in one.path.calls])
        for one in walk(source(text), make, functions, most)
    ]


def test_every_combination_is_one_path() -> None:
    """Each once; a condition that is asked again is decided as before."""
    text = "import a\nif a.b:\n    a.one()\nif a.c:\n    a.two()\nif a.b:\n    a.three()\n"
    assert sorted(walked(text)) == [
        ([False, False], False, []),
        ([False, True], False, ["a.two"]),
        ([True, False], False, ["a.one", "a.three"]),
        ([True, True], False, ["a.one", "a.two", "a.three"]),
    ]
    assert len(walked(text, most=3)) == 3


def test_a_path_that_raises_has_ended() -> None:
    """The other one has not."""
    assert walked("import a\nif a.b:\n    raise ValueError\na.one()\n") == [
        ([True], True, []),
        ([False], False, ["a.one"]),
    ]


def test_functions_are_followed_in_place_of_the_program() -> None:
    """Methods by their class; a function that another one calls is followed once; one that is not there is left out."""
    text = (
        "import a\nif __name__ == '__main__':\n    a.program()\ndef f():\n    a.one()\ndef g():\n    f()\n"
        "class C:\n    def h(self):\n        a.two()\n    def i(self):\n        raise ValueError\n"
    )
    assert walked(text) == [([], False, ["a.program"])]
    assert walked(text, ("g", "f", "C.i", "C.h", "gone", "Gone.h")) == [([], False, ["a.one", "a.two"])]
