"""The table of codes is complete and ordered, and has the codes of the tables of checks and of the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.checks import cell_checks, script_checks
from finetune_compat.checks.codes import CODES, AppliesTo, Code, Severity
from finetune_compat.checks.ledger import FREEZING
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.measures import MEASURES
from finetune_compat.contract.catalog import Tier
from finetune_compat.inspect import checks as adapter_checks

TABLES = {
    AppliesTo.CELL: cell_checks.ENGINE,
    AppliesTo.SCRIPT: script_checks.ENGINE,
    AppliesTo.ADAPTER: adapter_checks.ENGINE,
}
"""The guard has no table: test_guard_checks.py compares its problems with the codes."""


def test_a_code_is_listed_once_and_in_order() -> None:
    assert list(CODES) == sorted(CODES)
    assert all(name == code.code for name, code in CODES.items())


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.code)
def test_a_code_has_a_title_an_advice_and_applies_to_something(code: Code) -> None:
    assert code.title and not code.title.endswith(".")
    assert code.advice.endswith(".")
    assert code.applies_to


def test_no_two_codes_have_the_same_title_for_a_subject() -> None:
    """C104 and C105 make the same claim at two stages, in different words."""
    titles = [code.title for code in CODES.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("subject", TABLES)
def test_a_table_holds_just_the_codes_that_apply_to_its_subject(subject: AppliesTo) -> None:
    """Each code is in it once."""
    asked = [code.code for code in TABLES[subject].codes]
    assert sorted(asked) == [name for name, code in CODES.items() if subject in code.applies_to]


@pytest.mark.parametrize("subject", TABLES)
def test_checks_require_only_earlier_checks(subject: AppliesTo) -> None:
    """A table is evaluated in its order."""
    codes = [code.code for code in TABLES[subject].codes]
    for place, code in enumerate(codes):
        assert {other for other in CODES[code].requires if other in codes} <= set(codes[:place])


def test_what_a_code_requires_is_another_code_of_a_subject_it_applies_to() -> None:
    for code in CODES.values():
        assert code.code not in code.requires
        assert all(CODES[other].applies_to & code.applies_to for other in code.requires)


def test_only_cells_have_a_deep_tier_and_only_adapters_have_notes() -> None:
    """No other subject has them."""
    assert {subject for code in CODES.values() if code.tier is Tier.DEEP for subject in code.applies_to} == {
        AppliesTo.CELL
    }
    assert {subject for code in CODES.values() if code.severity is Severity.NOTE for subject in code.applies_to} == {
        AppliesTo.ADAPTER
    }


EVIDENCE = {
    **dict.fromkeys(FREEZING, 'froze = "peft/a.py::freeze"\n'),
    **dict.fromkeys(MEASURES, "measured = 0.0\n"),
    "G401": 'area = "vision"\n',
}
"""The fields that an entry of a check needs in addition."""


@pytest.mark.parametrize("code", CODES)
def test_the_ledger_accepts_every_code(code: str, tmp_path: Path) -> None:
    """This includes E803, which only scripts and the guard have."""
    path = tmp_path / "known-issues.toml"
    path.write_text(
        '[[issue]]\nid = "one"\ntitle = "t"\nkind = "upstream"\nlink = "l"\ncause = "c"\nremedy = "r"\n'
        'needs = "n"\nsees = "s"\nimports = ["trl.SFTTrainer"]\n'
        f'[[issue.shows]]\nwindows = {{ trl = ">=1" }}\nflows = ["sft-peft-model"]\ncheck = "{code}"\n'
        'symptom = "flat"\n' + EVIDENCE.get(code, "")
    )
    [issue] = load_ledger(path).issues
    assert [signature.check for signature in issue.shows] == [code]
