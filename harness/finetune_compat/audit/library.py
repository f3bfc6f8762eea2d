"""What calls of TRL, Transformers and PEFT do to models, tokenizers and trainers, as far as patterns need it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path as File

from packaging.version import InvalidVersion, Version

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.builtin_methods import items_method, table_method, text_method
from finetune_compat.audit.interpreter import Path
from finetune_compat.audit.names import canonical
from finetune_compat.audit.options import parsed_dataclasses, parser_method
from finetune_compat.audit.plain_functions import PLAIN
from finetune_compat.audit.signatures import ANY, Signatures
from finetune_compat.audit.training_start import start
from finetune_compat.audit.values import (
    Const,
    External,
    Items,
    Made,
    Model,
    Parameter,
    Parameters,
    Place,
    Table,
    Tokenizer,
    Training,
    Value,
    const,
    is_none,
)

_TRAINERS = re.compile(r"(?:trl|transformers|sentence_transformers)\.\w*Trainer")
_SETTINGS = re.compile(r"(?:trl|transformers|peft)\.\w*(?:Config|Arguments)")
_MODELS = re.compile(r"(?:transformers|trl)\.(?!DataCollator)(?:AutoModel\w*|\w+For[A-Z]\w+|\w+Model)")
_PEFT_MODELS = re.compile(r"peft\.(?:Auto)?PeftModel\w*")
_TOKENIZERS = re.compile(r"transformers\.(?:AutoTokenizer|AutoProcessor|\w+Tokenizer(?:Fast)?|\w+Processor)")
_OPTIMIZERS = re.compile(
    r"(?:torch|bitsandbytes|transformers|lion_pytorch|prodigyopt)\.(?:\w*Adam\w*|SGD|Lion|Adafactor|RMSprop|Prodigy)"
)
_QUANTIZED_NAME = re.compile(r"bnb|4bit|8bit|gptq|awq|int4|int8|nf4", re.IGNORECASE)
_WITHOUT_PAD = re.compile(r"llama-?2|meta-llama|mistral|gpt2|gpt-neo|gpt-j|pythia|falcon|bloomz?-?0", re.IGNORECASE)
"""Names of models whose tokenizers have no padding token."""

_OFF = {
    "merge_adapter": "the adapters are merged into the weights",
    "disable_adapter_layers": "the adapters are disabled",
    "disable_adapters": "the adapters are disabled",
}
_ON = frozenset({"unmerge_adapter", "enable_adapter_layers", "enable_adapters"})

_PART = "part of a model"


class Knowledge:
    """The library of the interpreter, for the versions of a project."""

    def __init__(self, signatures: Signatures, versions: Mapping[str, str], root: File) -> None:
        self.signatures, self.versions, self.root = signatures, versions, root

    # ---------------------------------------------------------------------------------------------------------- calls

    def call(self, path: Path, name: str, given: Given) -> Value:
        """The result of calling `name`."""
        short = canonical(name)
        owner, _, method = short.rpartition(".")
        plain = _FUNCTIONS.get(short) or _FUNCTIONS.get(
            short.rpartition(".")[2] if short.startswith("builtins.") else ""
        )
        if plain is not None:
            return plain(self, path, given)
        if _TRAINERS.fullmatch(short):
            return self._trainer(path, short, given)
        if _PEFT_MODELS.fullmatch(owner) and method == "from_pretrained":
            return self._loaded(owner, given)
        if _MODELS.fullmatch(owner) and method in ("from_pretrained", "from_config", "_from_config"):
            return self._model(owner, given)
        if _TOKENIZERS.fullmatch(owner) and method == "from_pretrained":
            name = str(const(given.get(0, "pretrained_model_name_or_path")) or "")
            path.tokenizers.append(Tokenizer(given.place, name=name))
            return path.tokenizers[-1]
        if _TOKENIZERS.fullmatch(short):
            path.tokenizers.append(self._tokenizer(given))
            return path.tokenizers[-1]
        if _SETTINGS.fullmatch(owner) and method == "from_pretrained":
            return Made(owner, {"inference_mode": Const("saved")}, given.place, open=True)
        if _MODELS.fullmatch(short) and not _SETTINGS.fullmatch(short):
            return Model(given.place, short)
        if _OPTIMIZERS.fullmatch(short):
            return self._optimizer(path, given)
        return Made(short, dict(given.named), given.place, tuple(given.positional), given.open)

    def _trainer(self, path: Path, kind: str, given: Given) -> Training:
        made = Training(kind, {}, given.place, open=given.open)
        path.trainings.append(made)
        self._fill(made, given)
        return made

    def _fill(self, made: Training, given: Given) -> None:
        names = self.signatures.arguments(made.kind, self.versions) or ("model", "args")
        made.given |= dict(zip(names, given.positional, strict=False)) | given.named
        made.open |= given.open
        if given.named or given.positional:
            made.place = given.place

    def _model(self, kind: str, given: Given) -> Value:
        model = Model(given.place, kind, attention=given.get(None, "attn_implementation"))
        if const(given.get(None, "use_flash_attention_2")) is True:
            model.attention = Const("flash_attention_2")
        model.quantized = _quantized(given)
        first = given.get(0, "pretrained_model_name_or_path")
        if isinstance(first, Model):  # AutoModelForCausalLMWithValueHead.from_pretrained(model)
            return first
        name = const(first)
        if isinstance(name, str) and _QUANTIZED_NAME.search(name):
            model.quantized = True
        if not is_none(given.get(None, "peft_config")):
            model.adapters, model.config, model.wrapped_at = True, given.get(None, "peft_config"), given.place
        return model

    def _loaded(self, kind: str, given: Given) -> Value:
        base = given.get(0, "model")
        automatic = kind.startswith("peft.Auto")
        model = base if isinstance(base, Model) and not automatic else Model(given.place, kind)
        if automatic:
            model.quantized = _quantized(given)
        model.adapters, model.wrapped_at, model.off = True, given.place, None
        model.note("an adapter is loaded", given.place)
        trainable = given.get(None if automatic else 3, "is_trainable")
        on = const(trainable)
        if trainable is None or on is False:
            model.frozen = model.note("loaded without is_trainable", given.place) if not given.open else None
        elif on is None:
            model.frozen = model.note("loaded with an unknown is_trainable", given.place)
        else:
            model.frozen = None
        return model

    def _tokenizer(self, given: Given) -> Tokenizer:
        made = Tokenizer(given.place, fields=dict(given.named))
        if not given.open:
            made.fields.setdefault("pad_token", Const(None))
        pad, end = const(given.named.get("pad_token")), const(given.named.get("eos_token"))
        if pad is not None and end is not None:
            made.pad_is_end, made.pad_place = pad == end, given.place
        return made

    def _optimizer(self, path: Path, given: Given) -> Value:
        first = given.get(0, "params")
        model = first.of if isinstance(first, Parameters) else None
        if model is not None:
            path.trainings.append(Training("loop", {"model": model}, given.place, started=given.place))
        return Made("optimizer", {}, given.place)

    # -------------------------------------------------------------------------------------------------------- methods

    def method(self, path: Path, of: Value, name: str, given: Given) -> Value:  # noqa: C901 - one case a kind of object
        """The result of calling a method."""
        match of:
            case Model():
                return self._of_model(path, of, name, given)
            case Training():
                return self._of_training(path, of, name, given)
            case Tokenizer():
                return self._of_tokenizer(of, name, given)
            case Parameter() if name == "requires_grad_":
                path.switch(of.of, given.get(0, "requires_grad") or Const(True), given.place)
            case Parameters() if name in ("named_parameters", "parameters", "items", "values"):
                return of
            case Table():
                return table_method(of, name, given)
            case Items():
                return items_method(of, name, given)
            case Const() if isinstance(of.value, str):
                return text_method(of, name, given)
            case Made() if of.name == _PART:
                return self._of_part(path, of, name, given)
            case Made():
                return self._of_made(of, name, given)
        return Value()

    def _of_part(self, path: Path, part: Made, name: str, given: Given) -> Value:
        """A method of a part of a model. What it does to gradients does not concern the other parts."""
        model = part.given["of"]
        if not isinstance(model, Model) or name == "requires_grad_":
            return Value()
        if name in ("parameters", "named_parameters"):
            return Parameters(model, named=name == "named_parameters", some=True)
        return self._of_model(path, model, name, given)

    def _of_model(self, path: Path, model: Model, name: str, given: Given) -> Value:  # noqa: C901, PLR0912 - one case a method
        match name:
            case "train" | "eval" | "to" | "cuda" | "half" | "float" | "bfloat16" | "cpu":
                return model
            case "requires_grad_":
                if const(given.get(0, "requires_grad")) is False:
                    model.frozen = model.note("all gradients are switched off", given.place)
                else:
                    model.frozen = None
                return model
            case "enable_input_require_grads":
                model.input_grads = True
            case "gradient_checkpointing_enable":
                options = given.get(0, "gradient_checkpointing_kwargs")
                model.checkpointing = options if isinstance(options, Table) else True
            case "gradient_checkpointing_disable":
                model.checkpointing = False
            case "resize_token_embeddings":
                model.resized = given.place
            case "add_adapter":
                model.adapters, model.wrapped_at = True, given.place
                model.config = (
                    given.get(1, "peft_config") or given.get(0, "adapter_config") or given.get(0, "peft_config")
                )
            case "load_adapter":
                self._second(model, given)
            case "save_pretrained":
                self._saved(model, given)
            case "set_adapter":
                model.frozen = None  # PEFT makes the adapter trainable that it makes active
            case "merge_and_unload" | "unload" | "get_base_model":
                model.adapters, model.frozen, model.config, model.off = False, None, None, None
                return model
            case "parameters" | "named_parameters":
                return Parameters(model, named=name == "named_parameters")
            case "disable_adapter":
                model.off = None
                return Made("disable_adapter", {"model": model}, given.place)
            case _ if name in _OFF and model.adapters:
                model.off = model.note(_OFF[name], given.place)
            case _ if name in _ON:
                model.off = None
        return Value()

    def _saved(self, model: Model, given: Given) -> None:
        """PEFT from 0.18.1 on freezes the adapter that it converts while saving."""
        peft = self.versions.get("peft")
        converts = not is_none(given.get(None, "path_initial_model_for_weight_conversion"))
        if converts and peft and Version(peft) >= Version("0.18.1") and model.adapters:
            model.frozen = model.note("saved with conversion", given.place)

    def _second(self, model: Model, given: Given) -> None:
        """PEFT 0.18 to 0.20 freeze the active adapter when a frozen one is loaded beside it."""
        peft = self.versions.get("peft")
        window = peft is not None and Version("0.18") <= Version(peft) < Version("0.21")
        if not model.adapters:
            model.adapters, model.wrapped_at = True, given.place
            if const(given.get(None, "is_trainable")) is not True:
                model.frozen = model.note("loaded without is_trainable", given.place)
        elif window and const(given.get(2, "is_trainable")) is not True and not given.open:
            model.frozen = model.note("a second adapter is loaded", given.place)

    def _of_training(self, path: Path, training: Training, name: str, given: Given) -> Value:
        if name == "__init__":
            self._fill(training, given)
        elif name == "train":
            training.started = training.started or given.place
            start(path, training, given.place)
        return Value()

    @staticmethod
    def _of_tokenizer(tokenizer: Tokenizer, name: str, given: Given) -> Value:
        if name == "add_special_tokens":
            tokens = given.get(0, "special_tokens_dict")
            names = set(tokens.items) if isinstance(tokens, Table) else {"unknown"}
            if "pad_token" in names:
                tokenizer.pad_is_end, tokenizer.pad_place = False, given.place
            if names - {"pad_token"}:
                tokenizer.added = given.place
        elif name == "add_tokens":
            tokenizer.added = given.place
        elif name == "from_pretrained":
            return Tokenizer(given.place)
        return Value()

    def _of_made(self, made: Made, name: str, given: Given) -> Value:
        last = made.name.rpartition(".")[2]
        if name == "prepare" and last == "Accelerator":
            return given.positional[0] if len(given.positional) == 1 else Items(list(given.positional))
        if last == "ArgumentParser":
            return parser_method(made, name, given)
        if last in ("HfArgumentParser", "TrlParser") and name.startswith("parse"):
            return parsed_dataclasses(made, name)
        if name == "read" or (name == "read_text" and made.name == "file"):
            return made
        return Value()

    # ----------------------------------------------------------------------------------------------------- attributes

    def attribute(self, of: Value, name: str) -> Value | None:  # noqa: C901, PLR0911, PLR0912 - one case a kind
        """An attribute; None if nothing is known."""
        match of:
            case External() if name == "__version__" and of.name in self.versions:
                return Const(self.versions[of.name])
            case Const() if name == "parent" and isinstance(of.value, str):
                return Const(of.value.rpartition("/")[0] or ".", default=of.default)
            case Made() if name in of.given:
                return of.given[name]
            case Made() if of.name == "options" and not of.open:
                return Const(None, default=True) if of.given else Value()
            case Training() if name in of.given:
                return of.given[name]
            case Tokenizer() if name in of.fields:
                return of.fields[name]
            case Tokenizer() if name in ("pad_token", "pad_token_id") and of.pad_is_end is None:
                return Const(None) if of.name and _WITHOUT_PAD.search(of.name) else Value()
            case Tokenizer() if name in ("eos_token", "eos_token_id"):
                return Made("end token", {"of": of}, of.place)
            case Tokenizer() if name == "tokenizer":  # of a processor
                return of
            case Model() if name == "module":
                return of
            case Model() if name in ("base_model", "model"):
                return Made(_PART, {"of": of}, of.place)
            case Made() if of.name == _PART and name in ("base_model", "model"):
                return of
            case Model() if name in ("config", "generation_config", "device", "dtype"):
                return Value()
        return None

    def assign(self, of: Value, name: str, value: Value, place: Place) -> None:
        """An attribute is assigned."""
        match of:
            case Made():
                of.given[name] = value
            case Training():
                of.given[name] = value
            case Tokenizer() if name in ("pad_token", "pad_token_id"):
                self._pad(of, name, value, place)
            case Tokenizer():
                of.fields[name] = value

    @staticmethod
    def _pad(tokenizer: Tokenizer, name: str, value: Value, place: Place) -> None:
        end = tokenizer.fields.get("eos_token" if name == "pad_token" else "eos_token_id")
        if isinstance(value, Made) and value.name == "end token":
            tokenizer.pad_is_end, tokenizer.pad_place = True, place
        elif isinstance(value, Const) and value.value is not None:
            same = end is not None and const(end) == value.value
            tokenizer.pad_is_end, tokenizer.pad_place = same, place
        else:
            tokenizer.pad_is_end = None
        tokenizer.fields[name] = value

    # ---------------------------------------------------------------------------------------------------- comparisons

    def compare(self, test: ast.Compare, left: Value, right: Value) -> bool | None:
        """Versions, and names in signatures."""
        if isinstance(left, Made) and isinstance(right, Made) and left.name == right.name == "version":
            one, other = left.positional[0], right.positional[0]
            if isinstance(one, Const) and isinstance(other, Const):
                return _versions_compared(test.ops[0], str(one.value), str(other.value))
        if isinstance(left, Const) and isinstance(right, Made) and right.name == "signature":
            accepted = self.signatures.arguments(str(const(right.positional[0])), self.versions)
            if accepted is not None and ANY not in accepted:
                found = left.value in accepted
                return found if isinstance(test.ops[0], ast.In) else not found
        return None


def _quantized(given: Given) -> bool | None:
    config = given.get(None, "quantization_config")
    for name in ("load_in_4bit", "load_in_8bit"):
        if const(given.get(None, name)) is True:
            return True
    if config is None:
        return None if given.open else False
    if isinstance(config, Const):
        return None if config.value is not None else False
    if isinstance(config, Made) and config.name == "transformers.BitsAndBytesConfig":
        asked = [config.get("load_in_4bit"), config.get("load_in_8bit")]
        if any(const(one) is True for one in asked):
            return True
        unknown = any(one is not None and not isinstance(one, Const) for one in asked)
        return None if unknown or config.open else False
    return None


def _versions_compared(op: ast.cmpop, left: str, right: str) -> bool | None:
    try:
        one, other = Version(left), Version(right)
    except InvalidVersion:
        return None
    match op:
        case ast.Lt():
            return one < other
        case ast.LtE():
            return one <= other
        case ast.Gt():
            return one > other
        case ast.GtE():
            return one >= other
        case ast.Eq():
            return one == other
        case ast.NotEq():
            return one != other
    return None


def _model_of(value: Value | None, given: Given) -> Model:
    """The model, or for an unknown value a model of which nothing is known."""
    return value if isinstance(value, Model) else Model(given.place, "", quantized=None)


def _wrap(_: Knowledge, path: Path, given: Given) -> Value:
    model = _model_of(given.get(0, "model"), given)
    model.adapters, model.config, model.wrapped_at, model.off = True, given.get(1, "peft_config"), given.place, None
    model.frozen = None
    model.note("wrapped", given.place)
    return model


def _prepare(_: Knowledge, path: Path, given: Given) -> Value:
    model = _model_of(given.get(0, "model"), given)
    if model.adapters:
        model.frozen = model.note("prepared after wrapping", given.place)
    model.note("prepared", given.place)
    model.prepared = True
    if const(given.get(1, "use_gradient_checkpointing")) is not False:
        model.input_grads = True
        options = given.get(2, "gradient_checkpointing_kwargs")
        model.checkpointing = options if isinstance(options, Table) else True
    return model


_FUNCTIONS: Mapping[str, Callable[[Knowledge, Path, Given], Value]] = {
    **PLAIN,
    "peft.get_peft_model": _wrap,
    "peft.prepare_model_for_kbit_training": _prepare,
    "peft.prepare_model_for_int8_training": _prepare,
    "trl.get_peft_config": lambda *_: Value(),  # a configuration if --use_peft is given
}
