"""Which conditions of a source file depend on the device, and which jumps decide on them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from finetune_compat.cell.device_guards import jumps
from finetune_compat.contract.branches import Accelerator


def functions(code: CodeType) -> Iterator[CodeType]:
    """Every code object inside `code`."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from functions(constant)


def found(tmp_path: Path, source: str) -> set[tuple[str, str]]:
    """Function and condition of each guard in `source`."""
    path = tmp_path / "module.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    whole = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    return {(code.co_qualname, jump.condition.text) for code in functions(whole) for jump in jumps(code).values()}


@pytest.mark.parametrize(
    "condition",
    [
        "torch.cuda.is_available()",
        "is_cuda_available()",
        "is_torch_bf16_gpu_available()",
        "torch.cuda.is_bf16_supported()",
        "is_triton_available()",
        "tensor.is_cuda",
        'param.device.type == "cuda"',
        'param.data.device.type in {"cpu", "meta"}',
        "torch.cuda.get_device_capability()[0] >= 8",
        "self.args.use_cpu",
        "self.args.n_gpu > 1",
        'any(p.device.type == "cuda" for p in ps)',
    ],
)
def test_a_condition_that_names_a_device_is_a_guard(tmp_path: Path, condition: str) -> None:
    """As an `if`, negated, joined with others, as a conditional expression, in a loop, and as an assertion."""
    source = f"""
        def plain():
            if {condition}:
                return 1
        def negated():
            if not {condition}:
                return 1
        def joined():
            if other and ({condition} or third):
                return 1
        def expression():
            return 1 if {condition} else 2
        def loop():
            while {condition}:
                pass
        def assertion():
            assert {condition}, "needs it"
        """
    names = ("plain", "negated", "joined", "expression", "loop", "assertion")
    assert found(tmp_path, source) >= {(name, condition) for name in names}


@pytest.mark.parametrize(
    "condition",
    [
        "args.bf16",
        'model.config.model_type == "qwen2"',
        "is_peft_available()",
        'param.device.type == "meta"',
        "supported",
        "x is None",
    ],
)
def test_other_conditions_are_none(tmp_path: Path, condition: str) -> None:
    """Settings of the user, names of models, packages, and the meta device, which is no device."""
    assert not found(tmp_path, f"def f():\n    if {condition}:\n        return 1\n")


def test_a_variable_with_the_value_of_a_condition_is_a_guard(tmp_path: Path) -> None:
    """Also behind a second variable, and in a nested function; not what was chosen by a condition."""
    source = """
        def f(model):
            is_sharded = False
            for param in model:
                is_sharded = param.data.device.type in {"cpu", "meta"}
            again = not is_sharded
            device = "cuda" if is_cuda_available() else "cpu"
            def inner():
                if again:
                    return 2
            if is_qlora and not is_sharded:
                return 1
            if device:
                return 3
        """
    assert found(tmp_path, source) == {
        ("f", "is_cuda_available()"),
        ("f", "is_sharded"),
        ("f.<locals>.inner", "again"),
    }


def test_the_name_of_a_variable_says_nothing_in_another_function(tmp_path: Path) -> None:
    """Only the function that assigns it."""
    source = """
        def one():
            ok = torch.cuda.is_available()
            if ok:
                return 1
        def other(ok):
            if ok:
                return 1
        """
    assert found(tmp_path, source) == {("one", "ok")}


@pytest.mark.parametrize("condition", ["is_torch_xpu_available()", 'device.type == "mps"', "torch.version.hip"])
def test_accelerators_of_other_makers_are_told_apart(tmp_path: Path, condition: str) -> None:
    """A CUDA GPU does not decide them; with one of its own names in the condition it does."""
    path = tmp_path / "module.py"
    path.write_text(
        f"def f():\n    if {condition}:\n        return 1\n"
        "def g():\n    if device.type in ('cuda', 'mps'):\n        return 1\n",
        encoding="utf-8",
    )
    codes = functions(compile(path.read_text(encoding="utf-8"), str(path), "exec"))
    kinds = [jump.condition.accelerator for code in codes for jump in jumps(code).values()]
    assert kinds == [Accelerator.OTHER, Accelerator.CUDA]


def test_a_file_that_cannot_be_read_has_no_guards(tmp_path: Path) -> None:
    """As for code that a library generates."""
    whole = compile("def f():\n    if is_cuda_available():\n        return 1\n", str(tmp_path / "gone.py"), "exec")
    assert [jumps(code) for code in functions(whole)] == [{}]
