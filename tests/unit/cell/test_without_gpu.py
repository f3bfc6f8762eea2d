"""What a script asks of a GPU and of the model hub, with modules that stand in for torch and huggingface_hub."""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from finetune_compat.cell.script import hub, without_gpu
from finetune_compat.cell.script.notes import Notes


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


class TestTheHub:
    def test_nobody_logs_in_and_a_token_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "mine")
        module = SimpleNamespace(login=refuses, notebook_login=refuses)
        notes = Notes()
        hub.logins(cast("ModuleType", module), notes)
        module.notebook_login()
        assert os.environ["HF_TOKEN"] == "mine"
        module.login(token="theirs")
        assert os.environ["HF_TOKEN"] == "theirs"
        assert [sentence.partition(" did not log in")[0] for sentence in notes.changed] == [
            "notebook_login()",
            "login()",
        ]
        assert not hasattr(module, "interpreter_login")

    def test_nothing_is_changed_there(self) -> None:
        class HfApi:
            create_repo = upload_folder = whoami = refuses

            def model_info(self) -> str:
                return "read"

        module = SimpleNamespace(HfApi=HfApi, RepoUrl=str, create_repo=HfApi().create_repo, whoami=refuses)
        notes = Notes()
        hub.writes(cast("ModuleType", module), notes)
        assert HfApi().upload_folder(folder_path="out", repo_id="me/it") is None  # type: ignore[func-returns-value]
        assert module.create_repo("me/it") == "https://huggingface.co/me/it"
        assert module.whoami()["name"] == "nobody"
        assert HfApi().model_info() == "read"
        assert notes.changed[0] == "upload_folder() of the hub was not called: a watched run changes nothing there"
