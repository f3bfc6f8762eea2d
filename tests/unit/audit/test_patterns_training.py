"""What is handed to a trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_builders import HEAD, LEDGER, LOAD, TRAIN, WRAP, examined, hits, one, releases
from finetune_compat.audit.examine import examine
from finetune_compat.audit.findings import Releases, Status
from finetune_compat.audit.signatures import read_signatures


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


CONFIG = "config = LoraConfig(task_type='CAUSAL_LM')\n"
PLAIN = "model = AutoModelForCausalLM.from_pretrained('m')\n"
TOKENIZER = (
    "from transformers import AutoTokenizer, DataCollatorForLanguageModeling\n"
    "tok = AutoTokenizer.from_pretrained('m')\n"
)
HEAD_MODEL = (
    "from transformers import AutoModelForSequenceClassification\n"
    "model = AutoModelForSequenceClassification.from_pretrained('m')\n"
)


def handed(arguments: str, start: str = PLAIN + CONFIG) -> str:
    """A script that hands these arguments to SFTTrainer."""
    return f"{start}SFTTrainer({arguments}).train()\n"


def by_trainer(config: str, start: str = HEAD_MODEL) -> str:
    """A script that wraps a model with this configuration, and trains it with Trainer."""
    return f"{start}Trainer(get_peft_model(model, {config}), TrainingArguments('out')).train()\n"


LOADED = PLAIN + "model = PeftModel.from_pretrained(model, 'a'{})\nTrainer(model, TrainingArguments('out')).train()\n"
GROWN = (
    TOKENIZER + PLAIN + "tok.{}\nmodel.resize_token_embeddings(len(tok))\n"
    "SFTTrainer(model, SFTConfig('out'), processing_class=tok, peft_config={}).train()\n"
)
COLLATED = (
    TOKENIZER + PLAIN + "tok.pad_token = {}\n"
    "Trainer(model, TrainingArguments('out'), data_collator=DataCollatorForLanguageModeling(tok, mlm={})).train()\n"
)
REENTRANT = (
    PLAIN + WRAP + "args = TrainingArguments('out', gradient_checkpointing=True{})\nTrainer(model, args).train()\n"
)


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        ("loaded-frozen", LOADED.format(""), LOADED.format(", is_trainable=True")),
        (
            "prepared-after-wrapping",
            LOAD
            + WRAP
            + "model = prepare_model_for_kbit_training(model)\nTrainer(model, TrainingArguments('o')).train()\n",
            LOAD
            + "model = prepare_model_for_kbit_training(model)\n"
            + WRAP
            + "Trainer(model, TrainingArguments('o')).train()\n",
        ),
        (
            "frozen-by-code",
            PLAIN + WRAP + "model.requires_grad_(False)\nTrainer(model, TrainingArguments('out')).train()\n",
            PLAIN + "model.requires_grad_(False)\n" + WRAP + "Trainer(model, TrainingArguments('out')).train()\n",
        ),
        (
            "adapters-off",
            PLAIN + WRAP + "model.merge_adapter()\nTrainer(model, TrainingArguments('out')).train()\n",
            PLAIN
            + WRAP
            + "model.merge_adapter()\nmodel.unmerge_adapter()\nTrainer(model, TrainingArguments('out')).train()\n",
        ),
        (
            "inference-mode",
            by_trainer("LoraConfig(task_type='CAUSAL_LM', inference_mode=True)", PLAIN),
            by_trainer("LoraConfig(task_type='CAUSAL_LM', inference_mode=False)", PLAIN),
        ),
        (
            "wrapped-model-and-config",
            handed("model, SFTConfig('out'), peft_config=config", PLAIN + CONFIG + WRAP),
            handed("model, SFTConfig('out'), peft_config=config"),
        ),
        (
            "checkpointing-cuts-gradients",
            REENTRANT.format(""),
            REENTRANT.format(", gradient_checkpointing_kwargs={'use_reentrant': False}"),
        ),
        ("pad-is-end", COLLATED.format("tok.eos_token", False), COLLATED.format("'<pad>'", False)),
        ("pad-is-end", COLLATED.format("tok.eos_token", False), COLLATED.format("tok.eos_token", True)),
        ("head-not-trained", by_trainer("LoraConfig()"), by_trainer("LoraConfig(task_type='SEQ_CLS')")),
        ("head-not-trained", by_trainer("LoraConfig()"), by_trainer("LoraConfig(modules_to_save=['score'])")),
        (
            "new-tokens-untrained",
            GROWN.format("add_tokens(['<a>'])", "LoraConfig()"),
            GROWN.format("add_tokens(['<a>'])", "LoraConfig(modules_to_save=['embed_tokens', 'lm_head'])"),
        ),
        (
            "new-tokens-untrained",
            GROWN.format("add_tokens(['<a>'])", "LoraConfig()"),
            GROWN.format("add_special_tokens({'pad_token': '<pad>'})", "LoraConfig()"),
        ),
    ],
)
def test_each_pattern_is_hit_and_its_remedy_is_not(tmp_path: Path, pattern: str, bad: str, good: str) -> None:
    """The two scripts differ in nothing else."""
    assert pattern in [name for name, *_ in hits(examined(tmp_path, HEAD + bad))]
    assert pattern not in [name for name, *_ in hits(examined(tmp_path, HEAD + good))]


def test_the_fix_of_a_finding_is_its_remedy(tmp_path: Path) -> None:
    """The argument of the good script above."""
    found = one(examined(tmp_path, HEAD + LOADED.format("")), "loaded-frozen")
    assert found.fix is not None and found.fix.add == {"is_trainable": "True"}


def test_the_attention_of_a_project(tmp_path: Path) -> None:
    """A rule of the project; without one there is nothing to find."""
    text = HEAD + "model = AutoModelForCausalLM.from_pretrained('m', attn_implementation='flash_attention_2')\n" + TRAIN
    (tmp_path / "train.py").write_text(text)
    for rule, patterns in (("sdpa", ["attention"]), ("flash_attention_2", []), ("", [])):
        found = examine(tmp_path, releases(), read_signatures(), rule)
        assert [finding.pattern for finding in found.findings if finding.pattern == "attention"] == patterns
