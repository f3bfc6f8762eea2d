"""Every fault of a ledger is reported, with its place and its cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import VERSIONS
from ledger_builders import ENTRY, FREEZE, PLACES, SCRIPTED, fault_of

NO_CHAIN = "'quantization' is not a call chain (such as trl/models/utils.py::prepare -> peft/utils/other.py::freeze)"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            '"one_bug"',
            '"one-bug.py"',
            "script: 'one-bug.py' is not the name of a script in tests/exam/issues (without .py)",
        ),
        (
            '"AssertionError: one is two"',
            '"one is two"',
            "error: 'one is two' does not begin with the type (such as ValueError: no labels)",
        ),
        ("{ peft =", "{ pfet =", f"windows.pfet: observations do not record 'pfet'; they record {', '.join(VERSIONS)}"),
        (
            '"learns nothing"',
            '"hurts"',
            "harm: Input should be 'learns nothing', 'learns something else', 'cannot be saved' or 'crashes'",
        ),
    ],
)
def test_a_wrong_script_is_named_with_its_place(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in SCRIPTED
    found = fault_of(tmp_path, ENTRY + SCRIPTED.replace(old, new))
    assert found == f"1 fault\n  issue[0].scripts[0].{fault}"


def test_an_issue_that_nothing_shows_is_a_fault(tmp_path: Path) -> None:
    cells, _, _ = ENTRY.partition("[[issue.shows]]")
    fault = "issue[0].shows: no cell and no script shows it: the issue would apply nowhere"
    assert fault_of(tmp_path, cells) == f"1 fault\n  {fault}"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"C104"', '"C999"', "issue[0].shows[0].check: there is no check 'C999'"),
        ('["sft-peft-model"]', '["sft-peft"]', "issue[0].shows[0].flows: there is no flow 'sft-peft'"),
        ('check = "C104"', 'check = "C104"\nmodels = ["gpt2"]', "issue[0].shows[0].models: there is no model 'gpt2'"),
        (
            ">=0.20.0,<0.23.1",
            "0.20 to 0.23",
            "issue[0].shows[0].windows.trl: '0.20 to 0.23' is not a valid version specifier (such as >=0.20.0,<0.23.1)",
        ),
        ('\nsymptom = "flat"', "", "issue[0].shows[0].check: no ending to look for: name an error or a symptom"),
        (
            FREEZE,
            "",
            "issue[0].shows[0].froze: C103, C104, C105 need the call chain that froze",
        ),
        (
            FREEZE,
            'froze = "quantization"',
            f"issue[0].shows[0].froze: there is no place 'quantization', and {NO_CHAIN}",
        ),
        (
            'symptom = "flat"',
            'error = "ValueError: x"\nstage = "training"',
            "issue[0].shows[0].raised: an error needs the call chain that raised it, and only an error has one",
        ),
        (
            'symptom = "flat"',
            'error = "ValueError: x"\nraised = "a.py::f"',
            "issue[0].shows[0].stage: an error needs the stage at which it is raised, and only an error has one",
        ),
        (
            'symptom = "flat"',
            'error = "no labels"\nraised = "a.py::f"\nstage = "training"',
            "issue[0].shows[0].error: 'no labels' does not begin with the type (such as ValueError: no labels)",
        ),
        (
            '"C104"',
            '"G406"',
            "issue[0].shows[0].froze: only C103, C104, C105 and F001 have a call chain that froze",
        ),
        (
            'symptom = "flat"',
            'symptom = "flat"\napart = 0.5',
            "issue[0].shows[0].apart: only G402 has it, in place of the measured value",
        ),
        (
            'symptom = "flat"',
            'symptom = "flat"\nmeasured = 0.5',
            "issue[0].shows[0].measured: L501, G402 need the measured value, and only they have one",
        ),
        (
            'symptom = "flat"',
            'symptom = "flat"\narea = "vision"',
            "issue[0].shows[0].area: G401 needs the area without gradients, and only it has one",
        ),
        (
            'symptom = "flat"',
            'symptom = "flat"\nsymptoms = "x"',
            "issue[0].shows[0].symptoms: Unexpected keyword argument",
        ),
        (
            '["sft-peft-model"]',
            "[]",
            "issue[0].shows[0].flows: names no flow: the entry would apply nowhere",
        ),
        (
            "{ trl =",
            "{ tlr =",
            f"issue[0].shows[0].windows.tlr: observations do not record 'tlr'; they record {', '.join(VERSIONS)}",
        ),
        ('remedy = "Hand it the base model."', "", "issue[0].remedy: Field required"),
        ('sees = "0 trainable parameters"', 'sees = " "', "issue[0].sees: is empty or has more than one line"),
        ('needs = "a PeftModel"', r'needs = "a\nb"', "issue[0].needs: is empty or has more than one line"),
        (
            '["trl.SFTTrainer"]',
            "[]",
            "issue[0].imports: names nothing that affected code uses (such as trl.SFTTrainer)",
        ),
        (
            '"trl.SFTTrainer"',
            '"SFTTrainer"',
            "issue[0].imports: 'SFTTrainer' is not a public name of a library (such as trl.SFTTrainer)",
        ),
    ],
)
def test_a_wrong_entry_is_named_with_its_place(tmp_path: Path, old: str, new: str, fault: str) -> None:
    """There is one error with its path and its cause."""
    assert old in ENTRY
    assert fault_of(tmp_path, ENTRY.replace(old, new)) == f"1 fault\n  {fault}"


def test_all_faults_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    """Two entries have one id, and one of them an unknown check and an unknown flow."""
    wrong = ENTRY.replace('"C104"', '"C999"').replace('["sft-peft-model"]', '["sft-peft"]')
    assert fault_of(tmp_path, ENTRY + wrong) == (
        "3 faults\n"
        "  issue[1].id: 'trl#3926' is used twice\n"
        "  issue[1].shows[0].flows: there is no flow 'sft-peft'\n"
        "  issue[1].shows[0].check: there is no check 'C999'"
    )


def test_a_feature_that_every_device_has_is_a_fault(tmp_path: Path) -> None:
    """An empty name would match everything."""
    assert fault_of(tmp_path, LEDGER_TEXT.format(evidence='feature = ""\nsymptom = "flat"')) == (
        "1 fault\n  issue[0].shows[0].feature: is empty: it would match everything"
    )


@pytest.mark.parametrize("chain", ["", "peft", "peft/a.py", "peft/a.py::f, peft/b.py::g"])
def test_a_place_needs_a_file_and_a_function(tmp_path: Path, chain: str) -> None:
    """A line number changes with every release; a file alone has many functions."""
    text = PLACES.replace("peft/a.py::old", chain)
    assert fault_of(tmp_path, text).startswith(f"1 fault\n  place[0].chain: {chain!r} is not a call chain")


@pytest.mark.parametrize("symptom", ["error", "unknown"])
def test_an_unknown_symptom_is_an_error(tmp_path: Path, symptom: str) -> None:
    """An entry that can never match is an error of the file, not a failure of every run."""
    assert fault_of(tmp_path, LEDGER_TEXT.format(evidence=f'symptom = "{symptom}"')) == (
        f"1 fault\n  issue[0].shows[0].symptom: {symptom} is not a valid symptom here; name an error with `error`"
    )


LEDGER_TEXT = """
[[issue]]
id = "x"
title = "t"
kind = "upstream"
link = "https://example.org"
cause = "c"
remedy = "r"
needs = "a PeftModel"
sees = "0 trainable parameters"
imports = ["trl.SFTTrainer"]
[[issue.shows]]
windows = {{ trl = ">=0.20" }}
flows = ["sft-full"]
check = "A201"
{evidence}
"""
