"""Adapters of PEFT 0.21.2 that were answered wrongly once; `tests/exam/handed` has them as they were saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.inspection import inspect_adapter

HANDED = Path(__file__).parents[2] / "exam" / "handed" / "adapters"


@pytest.mark.parametrize(
    ("name", "unhealthy"),
    [
        ("v_exclude", []),
        ("v_trainable_tokens_lora", []),  # the length of its header begins like a pickle
        ("p_prompt", []),
        ("f_adalora", ["S204"]),
        ("f_ia3", ["S204"]),
    ],
)
def test_an_adapter_is_answered_as_it_is(name: str, unhealthy: list[str]) -> None:
    seen = inspect_adapter(HANDED / name)
    assert [finding.code for finding in seen.findings if finding.severity == "unhealthy"] == unhealthy
    assert seen.exit_code is (ExitCode.UNHEALTHY if unhealthy else ExitCode.HEALTHY)
