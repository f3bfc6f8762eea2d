"""What is handed to a trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_builders import HEAD, LEDGER, LOAD, TRAIN, WRAP, examined, hits, one, releases
from finetune_compat.audit.findings import Releases, Status


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
