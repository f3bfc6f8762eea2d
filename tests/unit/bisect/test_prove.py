"""`compat transplant`: which functions are exchanged, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finetune_compat.bisect import prove as proving
from finetune_compat.bisect.lines import Changed
from finetune_compat.bisect.probe import Bench
from finetune_compat.bisect.prove import TransplantRequest, transplant_command
from finetune_compat.bisect.transplant import Proof
from finetune_compat.contract.errors import CompatError
from finetune_compat.history.condition import Measured

PLACES = ("trl/a.py::first", "trl/a.py::second", "trl/a.py::third")


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int | None]]]:
    """Replace runs: `proven` is the place that is the cause. Return the places that were exchanged."""

    def use(proven: str, on_chain: tuple[str, ...] = PLACES, bad: str = "fails") -> list[tuple[str, int | None]]:
        asked: list[tuple[str, int | None]] = []

        def prove(_: Any, good: Any, bad: Any, place: str, hunk: int | None) -> Proof:
            asked.append((place, hunk))
            return Proof(place, "good", "bad", "trains", "fails", "x", "y", place == proven, place == proven)

        def probe(_: Any, of: Any) -> Any:
            state = bad if "0.23.0" in of.asked else "trains"
            return SimpleNamespace(measured=Measured(state, state), python=Path(__file__), seen=object(), versions={})

        chain = tuple(Changed(*place.split("::"), "https://x", "https://y", ("+",)) for place in on_chain)
        monkeypatch.setattr(proving, "prove", prove)
        monkeypatch.setattr(proving, "changed_functions", lambda *_: chain)
        monkeypatch.setattr(proving, "resolve", lambda side, asked, *_: SimpleNamespace(asked=asked))
        monkeypatch.setattr("finetune_compat.bisect.transplant.installed", lambda *_: None)
        monkeypatch.setattr(Bench, "probe", probe)
        return asked

    return use


def asked(**options: Any) -> TransplantRequest:
    return TransplantRequest(
        ("trl==0.23.1",), ("trl==0.23.0",), **{"flow": "sft-peft-model", "device": "cpu", **options}
    )


class TestTransplant:
    def test_functions_on_the_chain_until_one_is_proven(
        self, stand: Callable[..., Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        tried = stand(PLACES[1])
        assert transplant_command(asked(), as_json=False) == 0
        assert tried == [(PLACES[0], None), (PLACES[1], None)]
        out = capsys.readouterr().out
        assert "NOT PROVEN: the bad function does not break the good release" in out
        assert "  PROVEN: the bad function breaks the good release" in out

    def test_every_function_that_is_named(self, stand: Callable[..., Any]) -> None:
        tried = stand(PLACES[0])
        assert transplant_command(asked(functions=PLACES[:2]), as_json=True) == 0
        assert tried == [(PLACES[0], None), (PLACES[1], None)]

    def test_one_change_of_one_function(self, stand: Callable[..., Any]) -> None:
        tried = stand("")
        assert transplant_command(asked(functions=PLACES[:1], hunk=2), as_json=False) == 3
        assert tried == [(PLACES[0], 2)]
        with pytest.raises(CompatError, match="--hunk needs one function"):
            transplant_command(asked(hunk=2), as_json=False)

    def test_no_function_on_the_chain(self, stand: Callable[..., Any]) -> None:
        stand("", on_chain=())
        with pytest.raises(CompatError, match="no function on a freeze chain"):
            transplant_command(asked(), as_json=False)

    def test_equal_sides(self, stand: Callable[..., Any]) -> None:
        stand("", bad="trains")
        with pytest.raises(CompatError, match="both sides give the same"):
            transplant_command(asked(), as_json=False)
