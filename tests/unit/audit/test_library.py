"""What calls of libraries do to models, tokenizers and trainers."""

from __future__ import annotations

import pytest
from audit_builders import path_of, value_of
from finetune_compat.audit.values import Made, Model, Tokenizer

IMPORTS = (
    "import peft, transformers, trl\n"
    "from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig\n"
)
LOAD = "x = AutoModelForCausalLM.from_pretrained('m')\n"
WRAP = "x = get_peft_model(x, LoraConfig())\n"


def model(text: str) -> Model:
    """The model `x` of a script."""
    found = value_of(IMPORTS + text)
    assert isinstance(found, Model)
    return found


class TestQuantized:
    @pytest.mark.parametrize(
        ("arguments", "quantized"),
        [
            ("'m'", False),
            ("'m', load_in_4bit=True", True),
            ("'m', load_in_8bit=True", True),
            ("'m', quantization_config=BitsAndBytesConfig(load_in_4bit=True)", True),
            ("'m', quantization_config=BitsAndBytesConfig()", False),
            ("'m', quantization_config=None", False),
            ("'m', quantization_config=elsewhere.config()", None),
            ("'m', **elsewhere.options()", None),
            ("'ours/llama-bnb-4bit'", True),
            ("'ours/llama-AWQ'", True),
        ],
    )
    def test_how_a_model_is_loaded(self, arguments: str, quantized: bool | None) -> None:
        """By arguments, a configuration, or a name that says so."""
        found = model(f"import elsewhere\nx = AutoModelForCausalLM.from_pretrained({arguments})\n")
        assert found.quantized is quantized


class TestAdapters:
    def test_wrapping(self) -> None:
        """PEFT changes the model in place: both names are one object."""
        found = model(
            "base = AutoModelForCausalLM.from_pretrained('m')\nx = get_peft_model(base, LoraConfig())\nx = base\n"
        )
        assert found.adapters and isinstance(found.config, Made)
        assert (found.config.name, found.frozen, found.prepared) == ("peft.LoraConfig", None, False)

    def test_preparing_before_and_after(self) -> None:
        """`prepare_model_for_kbit_training` freezes every parameter that is there."""
        prepare = "x = prepare_model_for_kbit_training(x)\n"
        before, after = model(LOAD + prepare + WRAP), model(LOAD + WRAP + prepare)
        assert before.prepared and before.frozen is None and before.input_grads
        assert after.frozen is not None and after.frozen.what == "prepared after wrapping"

    def test_preparing_without_checkpointing(self) -> None:
        """No hook is set on the embeddings then."""
        found = model(LOAD + "x = prepare_model_for_kbit_training(x, use_gradient_checkpointing=False)\n")
        assert (found.input_grads, found.checkpointing) == (False, False)

    @pytest.mark.parametrize(
        ("arguments", "frozen"),
        [("", True), (", is_trainable=False", True), (", is_trainable=True", False), (", **elsewhere.o()", False)],
    )
    def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(self, arguments: str, frozen: bool) -> None:
        """The default of PEFT. What is not known is not claimed."""
        found = model(f"import elsewhere\n{LOAD}x = PeftModel.from_pretrained(x, 'a'{arguments})\n")
        assert found.adapters
        assert (found.frozen is not None) is frozen

    @pytest.mark.parametrize(
        ("call", "off"),
        [
            ("x.merge_adapter()", True),
            ("x.disable_adapter_layers()", True),
            ("x.disable_adapter_layers()\nx.enable_adapter_layers()", False),
            ("x.merge_adapter()\nx.unmerge_adapter()", False),
            ("with x.disable_adapter():\n    x(1)", False),
        ],
    )
    def test_adapters_are_switched_off_and_on(self, call: str, off: bool) -> None:
        """A context manager switches them on again."""
        assert (model(LOAD + WRAP + call + "\n").off is not None) is off

    @pytest.mark.parametrize("method", ["merge_and_unload", "unload", "get_base_model"])
    def test_a_model_without_its_adapters(self, method: str) -> None:
        """Nothing is left to train or to freeze."""
        found = model(LOAD + WRAP + f"x = x.{method}()\n")
        assert (found.adapters, found.frozen, found.config) == (False, None, None)

    def test_gradients_and_checkpointing(self) -> None:
        """The last call counts."""
        found = model(
            LOAD + "x.requires_grad_(False)\nx.gradient_checkpointing_enable()\nx.enable_input_require_grads()\n"
        )
        assert found.frozen is not None and (found.checkpointing, found.input_grads) == (True, True)
        found = model(LOAD + "x.requires_grad_(False)\nx.requires_grad_(True)\nx.gradient_checkpointing_disable()\n")
        assert (found.frozen, found.checkpointing) == (None, False)

    def test_a_part_of_a_model_is_not_the_model(self) -> None:
        """A head that is frozen leaves the adapters as they are."""
        assert model(LOAD + WRAP + "x.base_model.requires_grad_(False)\n").frozen is None


class TestTokenizers:
    @pytest.mark.parametrize(
        ("text", "pad_is_end"),
        [
            ("", None),
            ("x.pad_token = x.eos_token\n", True),
            ("x.pad_token_id = x.eos_token_id\n", True),
            ("x.pad_token = '<pad>'\n", False),
            ("x.eos_token = '</s>'\nx.pad_token = '</s>'\n", True),
            ("x.add_special_tokens({'pad_token': '<pad>'})\n", False),
            ("x.pad_token = x.eos_token\nx.add_special_tokens({'pad_token': '<pad>'})\n", False),
        ],
    )
    def test_the_padding_token(self, text: str, pad_is_end: bool | None) -> None:
        """The end of a text is not learned if it is padding."""
        found = value_of(IMPORTS + "x = AutoTokenizer.from_pretrained('m')\n" + text)
        assert isinstance(found, Tokenizer)
        assert found.pad_is_end is pad_is_end

    @pytest.mark.parametrize(("call", "added"), [("add_tokens(['<a>'])", True), ("add_special_tokens({})", False)])
    def test_new_tokens(self, call: str, added: bool) -> None:
        """Their embeddings are new too."""
        found = value_of(IMPORTS + f"x = AutoTokenizer.from_pretrained('m')\nx.{call}\n")
        assert isinstance(found, Tokenizer)
        assert (found.added is not None) is added


class TestTrainings:
    def test_a_trainer_has_what_it_is_given(self) -> None:
        """By name or by position, and begins where `train` is called."""
        path = path_of()
        value_of(IMPORTS + LOAD + "t = trl.SFTTrainer(x, trl.SFTConfig('out'))\nt.train()\n", path=path)
        (training,) = path.trainings
        assert (training.kind, training.place.line) == ("trl.SFTTrainer", 5)
        assert isinstance(training.model, Model)
        settings = training.given["args"]
        assert isinstance(settings, Made) and settings.name == "trl.SFTConfig"
        assert training.started is not None and training.started.line == 6

    def test_a_trainer_that_is_not_started(self) -> None:
        """It may only evaluate."""
        path = path_of()
        value_of(IMPORTS + LOAD + "trl.SFTTrainer(model=x).evaluate()\n", path=path)
        assert [training.started for training in path.trainings] == [None]

    @pytest.mark.parametrize(
        "parameters", ["x.parameters()", "[p for p in x.parameters() if p.requires_grad]", "params=x.parameters()"]
    )
    def test_an_optimizer_of_a_loop_is_a_training(self, parameters: str) -> None:
        """Of the model whose parameters it gets."""
        path = path_of()
        value_of(IMPORTS + LOAD + f"import torch\ntorch.optim.AdamW({parameters}, lr=1e-4)\n", path=path)
        (training,) = path.trainings
        assert training.kind == "loop" and isinstance(training.model, Model)
