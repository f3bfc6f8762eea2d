"""What a script asks of a GPU and of the model hub, with modules that stand in for torch and huggingface_hub."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from finetune_compat.cell.script import without_gpu
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.process import Process


def refuses(*_: object, **__: object) -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


class Tensor:
    """Records where it is moved."""

    def to(self, *args: object, **kwargs: object) -> tuple[object, ...]:
        return (*args, *kwargs.values())

    cuda = pin_memory = refuses


class Module(Tensor):
    """Moves as a tensor does."""


def fake_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A torch without CUDA whose functions return their arguments."""

    def place(*args: object, **kwargs: object) -> tuple[object, ...]:
        return (*args, *kwargs.values())

    class DeviceContext:
        def __init__(self, device: object) -> None:
            self.device = device

    registered: dict[str, object] = {}
    devices = SimpleNamespace(_device_constructors=lambda: None, DeviceContext=DeviceContext)
    modules = {
        "torch.utils._device": devices,
        "torch.jit._builtins": SimpleNamespace(_register_builtin=lambda f, name: registered.update({name: f})),
    }
    monkeypatch.setattr(without_gpu.importlib, "import_module", modules.__getitem__)
    factories = dict.fromkeys(without_gpu._FACTORIES, place)
    return SimpleNamespace(
        nn=SimpleNamespace(Module=Module),
        Tensor=Tensor,
        load=place,
        set_default_device=place,
        cuda=SimpleNamespace(get_device_properties=refuses),
        registered=registered,
        context=DeviceContext,
        **factories,
    )


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Notes]:
    """The fake torch, with a CPU in place of a GPU, and its notes."""
    monkeypatch.setattr(Tensor, "to", Tensor.to)
    monkeypatch.setattr(Tensor, "cuda", Tensor.cuda)
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.pin_memory)
    made, notes = fake_torch(monkeypatch), Notes()
    without_gpu.place_on_cpu(cast("ModuleType", made), notes)
    return made, notes


DEVICE = SimpleNamespace(type="cuda", index=0)
"""As `torch.device("cuda:0")`."""


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", DEVICE])
def test_new_tensors_are_on_the_cpu(torch: tuple[Any, Notes], asked: object) -> None:
    made, notes = torch
    assert made.tensor(1, device=asked) == (1, "cpu")
    assert made.load("file", map_location=asked) == ("file", "cpu")
    assert made.set_default_device(asked) == ("cpu",)
    assert made.context(asked).device == "cpu"
    assert made.registered["aten::tensor"] is made.tensor
    assert all("used the CPU: this machine has no GPU" in sentence for sentence in notes.changed)
    assert len(notes.changed) == 4


@pytest.mark.parametrize("asked", ["cuda", DEVICE, 0])
def test_tensors_stay_on_the_cpu(torch: tuple[Any, Notes], asked: object) -> None:
    made, notes = torch
    assert made.Tensor().to(asked) == made.Tensor().to(device=asked) == ("cpu",)
    assert isinstance(made.Tensor().cuda(), Tensor) and isinstance(made.Tensor().pin_memory(), Tensor)
    assert notes.changed[0] == "Tensor.to with a GPU left it on the CPU: this machine has no GPU"


def test_what_needs_no_gpu_is_unchanged_and_not_said(torch: tuple[Any, Notes]) -> None:
    made, notes = torch
    assert made.tensor(1, device="meta") == (1, "meta")
    assert made.zeros(2) == (2,)
    assert made.Tensor().to("cpu", True) == ("cpu", True)
    assert notes.changed == ()


def test_questions_about_the_gpu_are_answered_and_said(torch: tuple[Any, Notes]) -> None:
    """`is_available` is not among them: libraries decide by it."""
    made, notes = torch
    properties = made.cuda.get_device_properties(0)
    assert properties.name == made.cuda.get_device_name() == "no GPU"
    assert made.cuda.get_device_capability() == (properties.major, properties.minor)
    assert made.cuda.mem_get_info()[1] == properties.total_memory > 0
    assert made.cuda.synchronize() is None and made.cuda.current_device() == 0
    assert "torch.cuda.synchronize() did nothing: this machine has no GPU" in notes.changed
    assert not hasattr(made.cuda, "is_available")


@pytest.mark.parametrize("name", ["activation_offloading", "use_liger_kernel", "use_liger_loss", "use_vllm"])
def test_training_options_that_need_a_gpu_are_taken_as_false(name: str) -> None:
    notes, given = Notes(), SimpleNamespace(**{name: True})
    without_gpu.training_arguments(given, notes)
    assert getattr(given, name) is False
    assert notes.changed == (f"{name}=True was taken as False: it needs a GPU",)


def test_flash_attention_by_its_old_name_is_left_out() -> None:
    notes = Notes()
    assert without_gpu.load_options({"use_flash_attention_2": True, "config": 1}, notes) == {"config": 1}
    assert notes.changed == ("use_flash_attention_2=True was left out: flash attention needs a GPU",)


def arguments(**given: object) -> SimpleNamespace:
    """The part of TrainingArguments that is read."""
    return SimpleNamespace(**{"output_dir": "out", "push_to_hub": False, "report_to": "none", **given})


class TestWithoutAGpu:
    """Which arguments of TrainingArguments refuse a CPU, and which a CPU can do."""

    @pytest.mark.parametrize(
        ("given", "taken", "said"),
        [
            ({"bf16": True}, {"bf16": False}, "bf16=True was taken as False: bfloat16 training needs a GPU"),
            ({"bf16_full_eval": True}, {"bf16_full_eval": False}, "bf16_full_eval=True was taken as False: bfloat16"),
            ({"bf16": True, "use_cpu": False, "no_cuda": False}, {"bf16": False}, "bf16=True was taken as False"),
            ({"fp16": True}, {"fp16": False}, "fp16=True was taken as False: float16 training needs a GPU"),
            ({"fp16_full_eval": True}, {"fp16_full_eval": False}, "fp16_full_eval=True was taken as False: float16"),
            ({"tf32": True}, {"tf32": None}, "tf32=True was left out: it needs a GPU"),
            ({"optim": "paged_adamw_8bit"}, {"optim": "adamw_torch"}, "optim='paged_adamw_8bit' was taken as"),
        ],
    )
    def test_what_needs_one_is_redirected_and_said(
        self, given: dict[str, object], taken: dict[str, object], said: str
    ) -> None:
        notes, made = Notes(), arguments(**given)
        without_gpu.training_arguments(made, notes)
        assert vars(made) == vars(arguments(**{**given, **taken}))
        (sentence,) = notes.changed
        assert sentence.startswith(said)

    @pytest.mark.parametrize(
        "given",
        [
            {"bf16": True, "bf16_full_eval": True, "use_cpu": True},
            {"bf16": True, "no_cuda": True},  # before version 5 Transformers treats it as use_cpu
            {"bf16": False, "fp16": False, "tf32": False, "optim": "adamw_torch_fused"},
            {"bf16": None},
        ],
    )
    def test_what_a_cpu_can_do_is_unchanged(self, given: dict[str, object]) -> None:
        """A script that asks for a CPU gets the bfloat16 it asks for."""
        notes, made = Notes(), arguments(**given)
        without_gpu.training_arguments(made, notes)
        assert (vars(made), notes.changed) == (vars(arguments(**given)), ())

    def test_a_subclass_that_sets_bf16_itself_is_redirected(self) -> None:
        """TRL's configurations do so before they call the base class, if the script sets neither bf16 nor fp16."""

        class Base:
            bf16: bool | None = None
            fp16 = False

            def __post_init__(self) -> None:
                if self.bf16:
                    raise ValueError("Your setup doesn't support bf16/gpu.")

        class Config(Base):
            def __post_init__(self) -> None:
                self.bf16 = not self.fp16 if self.bf16 is None else self.bf16
                super().__post_init__()

        notes = Notes()
        kept = SimpleNamespace(training_arguments=lambda given: None)
        watched = SimpleNamespace(notes=notes, observer=SimpleNamespace(kept=kept, without_gpu=True))
        Process._arguments(cast("Process", watched), cast("ModuleType", SimpleNamespace(TrainingArguments=Base)))
        made = Config()
        made.__post_init__()
        assert made.bf16 is False
        assert notes.changed == ("bf16=True was taken as False: bfloat16 training needs a GPU, or use_cpu=True",)
