"""The ledger: it is parsed once, every error in it is reported, and it lists the issues of a cell."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from builders import FLAGSHIP, FULL, INT8, KBIT, LISTED, NF4, NF4_NOGC, VERSIONS, issue, on_trl
from finetune_compat.checks import ledger
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Ledger, Measured, load_ledger, shipped_ledger
from finetune_compat.contract.errors import ExitCode, MatrixError
from finetune_compat.contract.records import DeviceKind, Precision, Stage, Variant
from finetune_compat.machine.places import places
from hypothesis import given
from hypothesis import strategies as st

TODO = "Correct the file and run again; docs/extending.md describes the fields."
ENTRY = """
[[issue]]
id = "trl#3926"
title = "SFTTrainer freezes the adapters of a PeftModel it is handed"
kind = "upstream"
link = "https://github.com/huggingface/trl/issues/3926"
cause = "It prepares a second time."
remedy = "Hand it the base model."
needs = "a PeftModel"
sees = "0 trainable parameters"
imports = ["trl.SFTTrainer"]

[[issue.shows]]
windows = { trl = ">=0.20.0,<0.23.1" }
flows = ["sft-peft-model"]
precisions = ["nf4", "int8"]
gradient_checkpointing = true
device = "cpu"
check = "C104"
froze = "peft/peft_model.py::prepare -> peft/utils/other.py::freeze"
symptom = "flat"
"""
NO_CHAIN = "'quantization' is not a call chain (such as trl/models/utils.py::prepare -> peft/utils/other.py::freeze)"
FREEZE = 'froze = "peft/peft_model.py::prepare -> peft/utils/other.py::freeze"'


def written(tmp_path: Path, text: str) -> Path:
    """Write a ledger file."""
    path = tmp_path / "known-issues.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault_of(tmp_path: Path, text: str) -> str:
    """Return the error of an invalid ledger file, without the first line and the advice."""
    path = written(tmp_path, text)
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(TODO)
    return message.removeprefix(f"{path}: ").removesuffix(f"\n{TODO}")


def test_an_entry_becomes_values(tmp_path: Path) -> None:
    """Enums are enums, lists are tuples, missing values are None."""
    [entry] = load_ledger(written(tmp_path, ENTRY)).issues
    [shown] = entry.shows
    assert (entry.id, entry.kind.value, entry.fixed_by) == ("trl#3926", "upstream", None)
    assert shown.precisions == (Precision.NF4, Precision.INT8)
    assert (shown.device, shown.gradient_checkpointing, shown.raised) == (DeviceKind.CPU, True, None)


SCRIPTED = """
[[issue.scripts]]
windows = { peft = ">=0.17.0,<0.17.1" }
script = "one_bug"
error = "AssertionError: one is two"
harm = "learns nothing"
"""


def test_an_issue_may_be_shown_by_a_script_alone(tmp_path: Path) -> None:
    """It is listed for no cell, and its ways are those of cells and then those of scripts."""
    cells, _, _ = ENTRY.partition("[[issue.shows]]")
    ledger = load_ledger(written(tmp_path, cells + SCRIPTED))
    [entry] = ledger.issues
    [shown] = entry.scripts
    assert (shown.script, shown.harm, entry.library) == ("one_bug", Harm.LEARNS_NOTHING, "trl")
    assert (entry.shows, entry.ways, ledger.entries) == ((), (shown,), ())
    [both] = load_ledger(written(tmp_path, ENTRY + SCRIPTED)).issues
    assert both.ways == (*both.shows, shown)


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


def test_the_committed_ledger_is_sound() -> None:
    """It parses, and its first entry is trl#3926."""
    assert load_ledger().issues[0].id == "trl#3926"


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


def test_a_ledger_that_is_no_toml_is_one_message(tmp_path: Path) -> None:
    """No traceback is printed."""
    said = "Expected ']]' at the end of an array declaration (at line 1, column 8)"
    assert fault_of(tmp_path, "[[issue]") == f"1 fault\n  not TOML: {said}"


def test_a_missing_ledger_is_one_message(tmp_path: Path) -> None:
    """The message contains the operating system's."""
    path = tmp_path / "nowhere.toml"
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    assert str(raised.value) == f"{path}: 1 fault\n  cannot be read: No such file or directory\n{TODO}"


def test_a_ledger_that_is_no_text_is_one_message(tmp_path: Path) -> None:
    """The message names the encoding error."""
    path = tmp_path / "known-issues.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MatrixError) as raised:
        load_ledger(path)
    said = "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    assert str(raised.value) == f"{path}: 1 fault\n  not UTF-8: {said}\n{TODO}"


def test_an_empty_ledger_lists_nothing(tmp_path: Path) -> None:
    """A file of comments is a valid ledger."""
    assert load_ledger(written(tmp_path, "# nothing yet\n")).issues == ()


# ------------------------------------------------------------------------------------------------------- what applies


def listed(ledger: Ledger = LISTED, variant: Variant = NF4, **versions: str) -> bool:
    """Return whether anything is listed for a CPU cell of the flow sft-peft-model."""
    return bool(ledger.listed("sft-peft-model", variant, DeviceKind.CPU, {**VERSIONS, **versions}))


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("0.19.1", False),
        ("0.20.0", True),
        ("0.22.0.dev0", True),
        ("0.23.0", True),
        ("0.23.0.post1", True),
        ("0.23.0+local", True),
        ("0.23.1.dev0", False),
        ("0.23.1", False),
        ("0.9.6", False),
    ],
)
def test_a_window_takes_in_versions_as_numbers_and_pre_releases_too(version: str, inside: bool) -> None:
    """The development version in which users found trl#3926 is inside its window."""
    assert listed(trl=version) is inside


@given(st.sampled_from([{"device": DeviceKind.CUDA}, {"models": ("llama",)}, {"gradient_checkpointing": False}]))
def test_every_restriction_restricts(changes: dict[str, object]) -> None:
    """An entry for other devices, models or variants does not apply."""
    narrowed = dataclasses.replace(FLAGSHIP, **changes)  # type: ignore[arg-type]  # fields by name
    assert listed(trl="0.22.2")
    assert not listed(Ledger(issues=(issue(narrowed),)), trl="0.22.2")


def test_variants_are_chosen_by_precision_and_checkpointing() -> None:
    """An entry selects its precisions, and both values of gradient checkpointing if it has none."""
    assert [listed(variant=variant, trl="0.22.2") for variant in (NF4, NF4_NOGC, INT8, FULL)] == [
        True,
        True,
        True,
        False,
    ]


def test_all_windows_must_hold_and_a_missing_package_is_in_none() -> None:
    """Two windows must both hold; a missing package is inside no window."""
    both = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, windows={"trl": ">=0.20", "peft": "<0.17"})),))
    assert not listed(both, trl="0.22.2")
    assert listed(both, trl="0.22.2", peft="0.16.0")
    assert not both.listed("sft-peft-model", NF4, DeviceKind.CPU, {"trl": "0.22.2"})


def test_a_deviation_carries_the_evidence_of_its_signature() -> None:
    """The judge sees the check, the call chain that froze, and the kind."""
    [deviation] = LISTED.listed("sft-peft-model", NF4, DeviceKind.CPU, on_trl("0.22.2"))
    assert (deviation.issue, deviation.check, deviation.froze) == ("trl#3926", "C104", KBIT)
    assert (deviation.stage, deviation.kind) == (Stage.TRAINING, "upstream")


def test_a_feature_that_every_device_has_is_a_fault(tmp_path: Path) -> None:
    """An empty name would match everything."""
    assert fault_of(tmp_path, LEDGER_TEXT.format(evidence='feature = ""\nsymptom = "flat"')) == (
        "1 fault\n  issue[0].shows[0].feature: is empty: it would match everything"
    )


PLACES = """
[[place]]
name = "freeze"
windows = { peft = "<0.18.0" }
chain = "peft/a.py::old"

[[place]]
name = "freeze"
windows = { peft = ">=0.18.0" }
chain = "peft/b.py::caller -> peft/b.py::new"
"""


@pytest.mark.parametrize(
    ("peft", "chains"),
    [("0.17.1", ["peft/a.py::old"]), ("0.18.0", ["peft/b.py::caller -> peft/b.py::new"]), (None, [])],
)
def test_a_place_is_where_the_release_has_it(tmp_path: Path, peft: str | None, chains: list[str]) -> None:
    """Without a place for the release nothing is listed, so that the deviation fails."""
    ledger = load_ledger(written(tmp_path, PLACES + ENTRY.replace(FREEZE, 'froze = "freeze"')))
    versions = {"trl": "0.22.2"} | ({"peft": peft} if peft else {})
    listed = ledger.listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    assert [deviation.froze for deviation in listed] == chains


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


def test_measured_releases_are_read_from_the_file_beside_the_ledger(tmp_path: Path) -> None:
    """Without the file every release counts as measured."""
    path = written(tmp_path, ENTRY)
    versions = {"trl": "0.22.2", "peft": "0.17.1"}
    assert [
        found.unmeasured for found in load_ledger(path).listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    ] == [""]
    measured = {"quick": {"sft-peft-model": {"trl": "0.22.0", "peft": "0.17.1"}}, "deep": {}}
    path.with_name("measured.json").write_text(json.dumps(measured), encoding="utf-8")
    [deviation] = load_ledger(path).listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    assert deviation.unmeasured == "trl 0.22.2, measured until 0.22.0"


@pytest.mark.parametrize(
    ("versions", "deep", "text"),
    [
        ({"trl": "0.22.0"}, False, ""),
        ({"trl": "0.22.0.post1"}, False, "trl 0.22.0.post1, measured until 0.22.0"),
        ({"trl": "0.22.0"}, True, "trl 0.22.0, measured until 0.21.0"),
        ({"peft": "1.0"}, False, ""),
    ],
)
def test_a_release_is_beyond_what_was_measured_of_its_package(
    versions: dict[str, str], *, deep: bool, text: str
) -> None:
    """Packages that are not rows of the matrix do not count."""
    measured = Measured(quick={"sft-full": {"trl": "0.22.0"}}, deep={"sft-full": {"trl": "0.21.0"}})
    assert measured.beyond("sft-full", versions, deep=deep) == text
    assert measured.beyond("another", versions, deep=deep) == "no baseline has the flow"


def test_measured_releases_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    """With the path of that file."""
    path = written(tmp_path, ENTRY)
    path.with_name("measured.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MatrixError, match=r"measured\.json: 2 faults"):
        load_ledger(path)


class TestShipped:
    def test_the_fast_reader_gives_what_the_validating_one_gives(self) -> None:
        """Every field of every entry, with its type."""
        assert repr(shipped_ledger()) == repr(load_ledger())

    def test_an_invalid_ledger_is_reported_in_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message is that of the validating reader."""
        path = written(tmp_path, ENTRY.replace('kind = "upstream"', 'kind = "odd"'))
        there = dataclasses.replace(places(), matrices=tmp_path)
        monkeypatch.setattr(ledger, "places", lambda: there)
        assert path == there.ledger
        with pytest.raises(MatrixError, match=r"issue\[0\].kind"):
            shipped_ledger()
