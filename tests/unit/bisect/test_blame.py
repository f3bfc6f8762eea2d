"""`compat blame` with stand-ins for locks and runs: which packages it names, and when it calls them proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.bisect import blame as blaming
from finetune_compat.bisect.blame import BlameRequest, blame, blame_command
from finetune_compat.bisect.probe import Bench, Probe
from finetune_compat.checks.judge import judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import Observation
from finetune_compat.gate import mixture
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import Measured
from finetune_compat.stacks.locks import Lock, Unsolvable
from finetune_compat.stacks.matrix import LockPlan

SEEN = b.healthy("sft-peft-model")
BEFORE = {"trl": "0.23.1", "transformers": "4.56.2", "peft": "0.17.1", "tokenizers": "0.22.0", "numpy": "2.3.0"}
AFTER = {"trl": "0.24.0", "transformers": "4.57.1", "peft": "0.17.1", "tokenizers": "0.22.1", "numpy": "2.3.4"}

Versions = Mapping[str, str]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Versions]]:
    """Replace the resolver by one that keeps versions, and runs by what `of` gives for versions."""

    def use(
        of: Callable[[Versions], Observation], refuses: Callable[[Versions], bool] = lambda _: False
    ) -> list[Versions]:
        ran: list[Versions] = []

        def lock_of(plan: LockPlan) -> Lock | Unsolvable:
            versions = dict(text.split("==") for text in plan.preferences)
            if refuses(versions):
                return Unsolvable(Path("lock"), "cause: no versions", {})
            return Lock(Path("lock"), "", versions, {"torch": "2.13.0"})

        def resolved(side: Any, asked: str, matrix: Any, *_: Any) -> Resolved:
            stack = matrix.stack(asked)
            versions = BEFORE if asked == "trl0.23" else AFTER
            lock = Lock(Path("lock"), "", versions, {"torch": "2.13.0"})
            return Resolved(asked, blaming_rule(), matrix.plan(stack, "3.11"), lock, (), ())

        def probe(bench: Bench, of_versions: Resolved) -> Probe:
            if of_versions.stack in bench.done:
                return bench.done[of_versions.stack]
            if isinstance(of_versions.lock, Unsolvable):
                found = Probe(of_versions.stack, {}, Measured(None, of_versions.lock.cause), ran=False)
            else:
                versions = of_versions.lock.requirements
                ran.append(versions)
                seen = of(versions)
                verdict = judge(seen, flow_named(seen.flow), ())
                found = Probe(of_versions.stack, versions, bench.condition.of(verdict, seen), verdict, seen)
            bench.done[of_versions.stack] = found
            return found

        monkeypatch.setattr(mixture, "_lock", lock_of)
        monkeypatch.setattr(blaming, "resolve", resolved)
        monkeypatch.setattr(Bench, "probe", probe)
        return ran

    return use


def blaming_rule() -> Any:
    return mixture.Rule.ROW


def asked(**options: Any) -> BlameRequest:
    return BlameRequest(("trl0.23",), ("trl0.24",), **{"flow": "sft-peft-model", "device": "cpu", **options})


def drifted(seen: Observation) -> Observation:
    """The loss is averaged over one token more."""
    assert seen.training is not None
    factor = 23 / 24
    training = replace(seen.training, eval_before=seen.training.eval_before * factor)  # type: ignore[operator]
    return replace(seen, training=training)


class TestBlame:
    def test_a_verdict_has_its_package(self, stand: Callable[..., list[Versions]]) -> None:
        ran = stand(lambda versions: b.frozen(SEEN) if versions["trl"] == "0.24.0" else SEEN)
        (found,) = blame(asked()).blamed
        assert found.packages == ("trl 0.23.1 -> 0.24.0",)
        assert found.proven
        assert len(ran) == 4, "both sides, it alone, and all but it"

    def test_a_drift_has_its_package(self, stand: Callable[..., list[Versions]]) -> None:
        stand(lambda versions: drifted(SEEN) if versions["transformers"] == "4.57.1" else SEEN)
        (found,) = blame(asked()).blamed
        assert (found.difference, found.packages) == ("loss definition", ("transformers 4.56.2 -> 4.57.1",))
        assert found.proven

    def test_a_number_has_its_package(self, stand: Callable[..., list[Versions]]) -> None:
        stand(lambda versions: drifted(SEEN) if versions["transformers"] == "4.57.1" else SEEN)
        (found,) = blame(asked(condition="training.eval_before", tolerance=1e-3)).blamed
        assert found.packages == ("transformers 4.56.2 -> 4.57.1",)

    def test_two_packages_together(self, stand: Callable[..., list[Versions]]) -> None:
        """Each alone changes nothing; undoing both restores it."""
        both = {"trl": "0.24.0", "transformers": "4.57.1"}
        stand(lambda versions: b.frozen(SEEN) if both.items() <= versions.items() else SEEN)
        (found,) = blame(asked()).blamed
        assert found.packages == ("trl 0.23.1 -> 0.24.0", "transformers 4.56.2 -> 4.57.1")
        assert found.proven

    def test_a_package_outside_the_matrix(self, stand: Callable[..., list[Versions]]) -> None:
        stand(lambda versions: b.frozen(SEEN) if versions["numpy"] == "2.3.4" else SEEN)
        (found,) = blame(asked()).blamed
        assert found.packages == ("numpy 2.3.0 -> 2.3.4",)
        assert found.proven

    def test_either_of_two_causes_is_not_proven(self, stand: Callable[..., list[Versions]]) -> None:
        """Moving TRL breaks it, and so does moving Transformers: undoing one repairs nothing."""
        after = {*AFTER.items()} - {*BEFORE.items()}
        stand(lambda versions: b.frozen(SEEN) if {*versions.items()} & after else SEEN)
        (found,) = blame(asked()).blamed
        assert (found.breaks, found.repairs, found.proven) == (True, False, False)

    def test_what_the_resolver_refuses_is_named(
        self, stand: Callable[..., list[Versions]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        stand(
            lambda versions: b.frozen(SEEN) if versions["transformers"] == "4.57.1" else SEEN,
            lambda versions: (versions["trl"], versions["transformers"]) == ("0.24.0", "4.56.2"),
        )
        assert blame_command(asked(), as_json=False) == 3
        out = capsys.readouterr().out
        assert "because of transformers 4.56.2 -> 4.57.1" in out
        assert "restores it on trl0.24: could not be tried" in out
        assert "could not be tried: trl0.23 with trl 0.24.0: no versions" in out

    def test_the_terminal(self, stand: Callable[..., list[Versions]], capsys: pytest.CaptureFixture[str]) -> None:
        stand(lambda versions: drifted(SEEN) if versions["transformers"] == "4.57.1" else SEEN)
        assert blame_command(asked(), as_json=False) == 0
        out = capsys.readouterr().out
        assert "loss definition: eval_loss is 1.0000 -> 0.9583 of the mean over label tokens" in out
        assert "PROVEN both ways" in out

    def test_equal_sides_are_refused(self, stand: Callable[..., list[Versions]]) -> None:
        stand(lambda _: SEEN)
        with pytest.raises(CompatError, match="both sides give the same"):
            blame(asked())
