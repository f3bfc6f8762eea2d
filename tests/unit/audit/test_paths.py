"""Every path through a script."""

from __future__ import annotations

from pathlib import Path

from audit_builders import HEAD, LOAD, TRAIN, WRAP, examined, hits, one
from finetune_compat.audit.findings import Status


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
