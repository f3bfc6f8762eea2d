"""matrices/gate.toml: its values, and every error in it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import MatrixError
from finetune_compat.gate.decision import Decision
from finetune_compat.gate.policy import Exempted, load_policy
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import judge_one

POLICY = places().policy

LEDGER = load_ledger()
EXCEPTION = """
[[exception]]
flow = "sft-peft-model"
issue = "trl#3926"
change = "regressed"
reason = "we hand over the base model"
expires = 2027-01-31
"""


def faults(tmp_path: Path, text: str) -> list[str]:
    """Return the errors of a policy file with this text."""
    path = tmp_path / "gate.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MatrixError) as raised:
        load_policy(LEDGER, path)
    return [str(fault) for fault in raised.value.faults]


class TestTheCommittedOne:
    def test_a_regression_blocks_and_nothing_unknown_is_allowed(self) -> None:
        """Users get these defaults."""
        policy = load_policy(LEDGER)
        allowed = {change for change, effect in policy.effects.items() if effect is Decision.ALLOW}
        assert policy.effects[Change.REGRESSED] is Decision.BLOCK
        assert allowed == {Change.UNCHANGED, Change.FIXED, Change.STILL_FAILING, Change.GAINED_COVERAGE}
        assert policy.effect(Change.INCONCLUSIVE, None, LEDGER) is Decision.COULD_NOT_TELL

    def test_the_default_policy_accepts_nothing(self) -> None:
        """Exceptions are the user's."""
        assert load_policy(LEDGER).exceptions == ()


class TestOnlyIfNamed:
    def test_a_file_without_it_compares_every_flow(self, tmp_path: Path) -> None:
        """As policies did before there was such a list."""
        path = tmp_path / "gate.toml"
        path.write_text("\n".join(line for line in POLICY.read_text().splitlines() if "only_if_named" not in line))
        assert load_policy(LEDGER, path).only_if_named == ()

    @pytest.mark.parametrize(
        ("value", "fault"),
        [
            ('"sft-full"', "only_if_named: must be a list of flows, not 'sft-full'"),
            ('["sft"]', "only_if_named: there is no flow 'sft'"),
            ("[1]", "only_if_named: there is no flow 1"),
            (str([flow.name for flow in CATALOG]), "only_if_named: names every flow: nothing would be compared"),
        ],
    )
    def test_faults(self, tmp_path: Path, value: str, fault: str) -> None:
        """Each with what is wrong."""
        text = re.sub(r"(?m)^only_if_named = .*$", lambda _: f"only_if_named = {value}", POLICY.read_text())
        assert faults(tmp_path, text) == [fault]


class TestExceptions:
    def test_one_is_read(self, tmp_path: Path) -> None:
        """All fields are read."""
        path = tmp_path / "gate.toml"
        path.write_text(POLICY.read_text() + EXCEPTION)
        assert load_policy(LEDGER, path).exceptions == (
            Exempted("sft-peft-model", "trl#3926", Change.REGRESSED, "we hand over the base model", date(2027, 1, 31)),
        )

    def test_it_covers_what_it_names_and_nothing_else(self) -> None:
        """Another flow, another change, a second issue and unknown results are not accepted."""
        item = Exempted("sft-peft-model", "trl#3926", Change.REGRESSED, "why", date(2027, 1, 31))
        assert item.covers("sft-peft-model", Change.REGRESSED, ("trl#3926",))
        assert not item.covers("sft-full", Change.REGRESSED, ("trl#3926",))
        assert not item.covers("sft-peft-model", Change.NEWLY_FAILING, ("trl#3926",))
        assert not item.covers("sft-peft-model", Change.REGRESSED, ("trl#3926", "trl#6700"))
        assert not item.covers("sft-peft-model", Change.REGRESSED, ())
        every = Exempted("sft-peft-model", None, None, "why", date(2027, 1, 31))
        assert not every.covers("sft-peft-model", Change.INCONCLUSIVE, ())
        assert not every.covers("sft-peft-model", Change.LOST_COVERAGE, ())

    def test_its_last_day_is_a_day_it_holds(self) -> None:
        """It does not hold on the next day."""
        item = Exempted("sft-full", None, None, "why", date(2027, 1, 31))
        assert [item.expired(date(2027, *day)) for day in ((1, 31), (2, 1))] == [False, True]


class TestFaults:
    def test_all_of_a_file_at_once_each_with_its_place(self, tmp_path: Path) -> None:
        """An error is an unknown, missing or impossible value, or one that would accept everything."""
        text = POLICY.read_text()
        text = text.replace('fixed = "allow"\n', "").replace(
            'regressed = "block"', 'regressed = "stop"\nworse = "hold"'
        )
        text = text.replace('lost_coverage = "hold"', 'lost_coverage = "allow"')
        text = f"other = 1\n{text}\n[[exception]]\nchange = 'worse'\nwhy = 1\nexpires = 2027-01-31T00:00:00\n"
        text += EXCEPTION.replace("sft-peft-model", "sft").replace("3926", "0")
        assert faults(tmp_path, text) == [
            "other: is not a key this file knows",
            "effects.worse: is not a change this file knows",
            "effects.fixed: is missing",
            "effects.regressed: must be allow, hold or block, not 'stop'",
            "effects.lost_coverage: can never be allowed: nothing would be known of these cells",
            "exception[0].why: is not a key of an exception",
            "exception[0]: names neither a flow nor an issue: it would accept everything",
            "exception[0].change: there is no change 'worse'",
            "exception[0].reason: is missing: every exception needs a reason",
            "exception[0].expires: is missing or not a date (example: 2027-01-31, without quotes)",
            "exception[1].flow: there is no flow 'sft'",
            "exception[1].issue: there is no issue 'trl#0'",
        ]

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("effects = 1", "effects: must be a table, not 1"),
            (f"exception = 1\n{POLICY.read_text()}", "exception: must be a list of tables: write [[exception]]"),
            (f"exception = [1]\n{POLICY.read_text()}", "exception[0]: must be a table, not 1"),
            (
                f"{POLICY.read_text()}{EXCEPTION.replace('regressed', 'lost_coverage')}",
                "exception[0].change: can never be allowed: nothing would be known of these cells",
            ),
            ("= 1", "not TOML: Invalid statement (at line 1, column 1)"),
        ],
    )
    def test_of_form(self, tmp_path: Path, text: str, fault: str) -> None:
        """Each error is named."""
        assert fault in faults(tmp_path, text)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """The test has the whole message."""
        with pytest.raises(MatrixError) as raised:
            load_policy(LEDGER, tmp_path / "none.toml")
        assert str(raised.value) == (
            f"{tmp_path}/none.toml: 1 fault\n  cannot be read: No such file or directory\n"
            "Correct each of these places; the file's own comments say what they hold."
        )


def test_a_deviation_of_one_kind_of_machine_holds() -> None:
    """A user of another machine is not stopped by it; a library's fault next to it stops everyone."""
    policy = load_policy(LEDGER)
    kinds = {issue.kind: issue.id for issue in LEDGER.issues}
    platform, upstream = kinds["platform"], kinds["upstream"]  # type: ignore[index]  # an enum of texts
    seen = judge_one(b.frozen(b.healthy()), b.UNLISTED)
    effects = [
        policy.effect(Change.REGRESSED, replace(seen, issues=issues), LEDGER)
        for issues in ((platform,), (platform, upstream), ())
    ]
    assert effects == [Decision.HOLD, Decision.BLOCK, Decision.BLOCK]
