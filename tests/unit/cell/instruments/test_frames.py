"""Call chains: lines of the flow and of libraries, with short names and their source, without the frames between."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.cell.instruments import frames
from finetune_compat.cell.instruments.frames import Chain, calling_chain, raised_chain, readable
from finetune_compat.contract.records import Frame

Write = Callable[..., Callable[..., Any]]

PLUMBING = (
    "torch/nn/modules/module.py",
    "pytest.py",
    "_pytest/runner.py",
    "pluggy/_hooks.py",
    "xdist/remote.py",
    "execnet/gateway_base.py",
    "huggingface_hub/utils/_deprecation.py",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with an environment inside, as nox makes it."""
    monkeypatch.setattr(frames, "PROJECT", tmp_path)
    monkeypatch.setattr(frames, "_OWN_FLOWS", f"{tmp_path}/harness/finetune_compat/cell/flows/")
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    """Write a function `call` into a file of the environment or of the flows, and load it."""

    def write(file: str, line: str = "return inner()", **given: Any) -> Callable[..., Any]:
        folder = project / "harness/finetune_compat/cell/flows" if file.startswith("sft_") else site(project)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def call():\n    {line}\n", encoding="utf-8")
        spec = importlib.util.spec_from_file_location("loaded", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        vars(module).update(given)
        call: Callable[..., Any] = module.call
        return call

    return write


def site(project: Path) -> Path:
    """The site-packages folder of an environment."""
    return project / ".nox/compat-3-11/lib/python3.11/site-packages"


def ask() -> Chain:
    """Return the call chain at this point, as an instrument reads it."""
    return calling_chain(sys._getframe(1))


def test_packages_are_named_from_site_packages_on_although_they_lie_in_the_project(project: Path) -> None:
    """nox's environments are inside the checkout; their absolute path must not be recorded."""
    chain = (
        (f"{project}/harness/finetune_compat/cell/flows/sft_full.py", 1, "run"),
        (f"{site(project)}/trl/trainer/sft_trainer.py", 2, "__init__"),
        ("/usr/lib/python3/site-packages/peft/utils/other.py", 3, "prepare"),
    )
    assert [(frame.file, frame.line, frame.function) for frame in readable(chain)] == [
        ("harness/finetune_compat/cell/flows/sft_full.py", 1, "run"),
        ("trl/trainer/sft_trainer.py", 2, "__init__"),
        ("peft/utils/other.py", 3, "prepare"),
    ]


def test_a_chain_holds_the_flow_and_the_libraries_with_their_lines(write: Write) -> None:
    """The outermost frame is first, each with its source line. Frames of this test are left out."""
    freezes = write("peft/utils/other.py", "return ask()", ask=ask)
    trainer = write("trl/trainer/sft_trainer.py", inner=freezes)
    flow = write("sft_full.py", "return trainer()", trainer=trainer)
    assert readable(flow()) == (
        Frame("harness/finetune_compat/cell/flows/sft_full.py", 2, "call", "return trainer()"),
        Frame("trl/trainer/sft_trainer.py", 2, "call", "return inner()"),
        Frame("peft/utils/other.py", 2, "call", "return ask()"),
    )


@pytest.mark.parametrize("file", PLUMBING)
def test_plumbing_is_left_out(write: Write, file: str) -> None:
    """Frames that every call passes through carry no information."""
    inner = write("peft/utils/other.py", "return ask()", ask=ask)
    outer = write("trl/trainer/sft_trainer.py", inner=write(file, inner=inner))
    assert [frame.file for frame in readable(outer())] == ["trl/trainer/sft_trainer.py", "peft/utils/other.py"]


@pytest.mark.parametrize("file", ["torchao/quantize.py", "trl/torch/compat.py", "peft/tuners/lora/layer.py"])
def test_a_name_that_only_looks_like_plumbing_is_kept(write: Write, file: str) -> None:
    """Plumbing is recognised by the beginning of its path."""
    assert [frame.file for frame in readable(write(file, "return ask()", ask=ask)())] == [file]


def test_a_chain_of_plumbing_alone_is_empty(write: Write) -> None:
    """An empty chain is valid."""
    assert readable(write("torch/nn/modules/module.py", "return ask()", ask=ask)()) == ()


def test_an_error_has_the_lines_it_passed_through(write: Write) -> None:
    """The chain ends at the library's line that raised the error; torch's own lines below it are omitted."""
    crash = write("torch/autograd/graph.py", "raise RuntimeError('element 0')")
    trainer = write("transformers/trainer.py", inner=crash)
    flow = write("sft_full.py", inner=trainer)
    with pytest.raises(RuntimeError) as raised:
        flow()
    assert readable(raised_chain(raised.value.__traceback__)) == (
        Frame("harness/finetune_compat/cell/flows/sft_full.py", 2, "call", "return inner()"),
        Frame("transformers/trainer.py", 2, "call", "return inner()"),
    )


def test_a_line_that_cannot_be_read_is_empty() -> None:
    """Code without a file still has a frame."""
    [frame] = readable((("/gone/site-packages/trl/made_up.py", 7, "f"),))
    assert frame == Frame("trl/made_up.py", 7, "f", "")


def test_no_traceback_is_no_chain() -> None:
    """An exception that was never raised has no chain."""
    assert raised_chain(None) == calling_chain(None) == ()


def test_a_librarys_message_does_not_contain_the_checkouts_path() -> None:
    """A baseline is read on other machines."""
    assert frames.without_place(f"saved in {frames.PROJECT}/reports/runs/one") == "saved in ./reports/runs/one"
