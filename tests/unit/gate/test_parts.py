"""The pure parts of a gate: defaults, differences, the package index, and locks of sides that are no row."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import types
import urllib.error
import urllib.request
from datetime import date
from email.message import Message
from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.cell import config_defaults
from finetune_compat.contract.errors import CompatError, RegistryUnreachable
from finetune_compat.contract.records import DeviceKind, Stage
from finetune_compat.gate import index, resolve
from finetune_compat.gate.decision import Aspect, DefaultChange, Difference
from finetune_compat.gate.defaults import changes
from finetune_compat.gate.differences import differences
from finetune_compat.gate.index import Release
from finetune_compat.gate.inputs import read_side
from finetune_compat.stacks import locks
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from packaging.specifiers import SpecifierSet
from packaging.version import Version

MATRIX = read_matrix()


class TestDefaults:
    def test_added_removed_and_changed(self) -> None:
        """They are in the order of the fields; unchanged fields are not listed."""
        before = {"SFTConfig": {"packing": "False", "gone": "1", "same": "0"}}
        after = {"SFTConfig": {"packing": "True", "same": "0", "new": "None"}}
        assert changes(before, after) == (
            DefaultChange("SFTConfig", "packing", "False", "True"),
            DefaultChange("SFTConfig", "gone", "1", None),
            DefaultChange("SFTConfig", "new", None, "None"),
        )

    def test_an_inherited_change_is_reported_once(self) -> None:
        """It is reported at the base class; a trainer's configuration reports only its own changes."""
        before = {"SFTConfig": {"lr": "1", "bf16": "0"}, "TrainingArguments": {"lr": "1", "bf16": "0"}}
        after = {"SFTConfig": {"lr": "2", "bf16": "1"}, "TrainingArguments": {"lr": "2", "bf16": "0"}}
        assert changes(before, after) == (
            DefaultChange("SFTConfig", "bf16", "0", "1"),
            DefaultChange("TrainingArguments", "lr", "1", "2"),
        )

    def test_a_class_of_one_side_is_one_change(self) -> None:
        """Its fields are not listed one by one."""
        assert changes({}, {"KTOConfig": {"beta": "0.1"}}) == (
            DefaultChange("KTOConfig", "", None, "the class is there"),
        )

    def test_a_stack_lists_fields_with_their_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Values have no addresses; a missing class is left out, and no class is instantiated."""

        def broken() -> None:
            raise ValueError

        @dataclasses.dataclass
        class Config:
            must: int
            plain: float = 0.1
            made: list[str] = dataclasses.field(default_factory=lambda: ["q_proj"])
            odd: object = dataclasses.field(default_factory=broken)
            place: object = object  # only an instance of the class has an address

        module = types.ModuleType("a_stack")
        module.Config = Config  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "a_stack", module)
        asked = {"classes": ["a_stack:Config", "a_stack:Missing", "no_such_module:Config"]}
        assert config_defaults.answer_to(asked) == {
            "Config": {
                "must": "required",
                "plain": "0.1",
                "made": "['q_proj']",
                "odd": "made by broken (ValueError)",
                "place": "<class 'object'>",
            }
        }


class TestDifferences:
    def test_the_same_has_none(self) -> None:
        """A cell that one side did not observe has no difference either."""
        seen = b.healthy()
        assert differences(seen, seen) == differences(seen, None) == differences(None, seen) == ()

    def test_counts_dtypes_checkpointing_modules_and_loss(self) -> None:
        """They are listed by stage, with the old and the new value."""
        recorded = {"checkpointing": "reentrant", "adapted": {"q_proj": 2}}
        one = b.at_stage(b.healthy(), Stage.TRAINER, **recorded)
        other = b.at_stage(
            b.losses(b.healthy(), 5.0, 4.0),
            Stage.TRAINER,
            trainable=0,
            adapter_dtypes=("bfloat16",),
            checkpointing="not reentrant",
            adapted={"q_proj": 2, "qkv": 2},
        )
        assert differences(one, other) == (
            Difference(Aspect.TRAINABLE, Stage.TRAINER, "16,384", "0"),
            Difference(Aspect.ADAPTER_DTYPES, Stage.TRAINER, "float32", "bfloat16"),
            Difference(Aspect.CHECKPOINTING, Stage.TRAINER, "reentrant", "not reentrant"),
            Difference(Aspect.MODULES, Stage.TRAINER, "q_proj x2", "q_proj x2 qkv x2"),
            Difference(Aspect.LOSS, None, "4.892100", "5.000000"),
        )

    def test_what_an_older_harness_did_not_record_is_no_difference(self) -> None:
        """The value is unknown."""
        one = b.at_stage(b.healthy(), Stage.TRAINER, checkpointing="off", adapted={"q_proj": 2})
        assert differences(b.healthy(), one) == ()

    def test_a_loss_that_is_no_number_either_time_is_no_difference(self) -> None:
        """NaN is not equal to itself."""
        seen = b.masked_labels(b.healthy("rft-labels-masked"))
        assert differences(seen, seen) == ()


FILES = [
    {"filename": "trl-0.22.1-py3-none-any.whl", "upload-time": "2025-08-29T23:59:59.5Z"},
    {"filename": "trl-0.22.1.tar.gz", "upload-time": "2025-08-28T00:00:00Z"},
    {"filename": "trl-0.23.0-py3-none-any.whl", "upload-time": "2025-09-10T00:00:00Z"},
    {"filename": "trl-0.24.0-py3-none-any.whl", "upload-time": "2025-10-16T00:00:00Z", "yanked": "broken"},
    {"filename": "trl-0.25.0.tar.gz", "upload-time": "2025-11-06T00:00:00Z"},
]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the index answer this, or fail with this."""
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple/")

    def use(answer: object) -> None:
        def urlopen(request: urllib.request.Request, timeout: float) -> io.BytesIO:
            assert request.full_url == "https://mirror.example/simple/trl/"
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(json.dumps(answer).encode())

        index._releases.cache_clear()
        monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    return use


class TestIndex:
    def test_releases_have_a_wheel_and_were_not_withdrawn(self, answering: Any) -> None:
        """The day is that of the wheel, in UTC."""
        answering({"files": FILES})
        assert index.releases("trl") == (
            Release(Version("0.22.1"), date(2025, 8, 29)),
            Release(Version("0.23.0"), date(2025, 9, 10)),
        )
        assert index.release_day("trl", Version("0.23")) == date(2025, 9, 10)

    def test_a_missing_release(self, answering: Any) -> None:
        """The message names its neighbours."""
        answering({"files": FILES})
        with pytest.raises(CompatError) as raised:
            index.release_day("trl", Version("0.22.9"))
        assert str(raised.value) == (
            "https://mirror.example/simple: trl has no release 0.22.9 with a wheel\n"
            "Its nearest releases are 0.22.1, 0.23.0.\nName an existing release."
        )

    def test_an_index_without_days(self, answering: Any) -> None:
        """The index does not implement PEP 700."""
        answering({"files": [{"filename": "trl-0.22.1-py3-none-any.whl"}]})
        with pytest.raises(CompatError) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            "https://mirror.example/simple/trl/: the index gives no upload times of releases\n"
            "Some mirrors have no upload-time (PEP 700). The gate needs it for the day of a release.\n"
            "Set UV_DEFAULT_INDEX to an index that has it, or name stacks of the matrix or lock files."
        )

    def test_a_missing_package(self, answering: Any) -> None:
        """The name is probably misspelt."""
        answering(urllib.error.HTTPError("", 404, "Not Found", Message(), None))
        with pytest.raises(CompatError) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            "https://mirror.example/simple: there is no package 'trl'\n"
            "The name is misspelt, or the package is on another index.\nCorrect the name, or set UV_DEFAULT_INDEX."
        )

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (urllib.error.URLError("no route to host"), "no route to host"),
            (urllib.error.HTTPError("", 503, "Busy", Message(), None), "HTTP status 503"),
            ([], "no JSON of the simple API: list indices must be integers or slices, not str"),
        ],
    )
    def test_an_index_that_does_not_answer_is_an_infrastructure_failure(
        self, answering: Any, answer: object, why: str
    ) -> None:
        """This is an infrastructure failure; the rows of the matrix need no index."""
        answering(answer)
        with pytest.raises(RegistryUnreachable) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            f"https://mirror.example/simple: the package index does not answer: {why}\n"
            "For a bare pin, the other packages are as of its release day, which only the index has.\n"
            "Check the connection, or name stacks of the matrix: their days and locks are committed."
        )


BODY = f"trl==0.22.1 \\\n    --hash=sha256:{'0' * 64}\n"


class TestLocks:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> None:
        in_places(environments=tmp_path)
        monkeypatch.setattr(index, "release_day", lambda package, version: date(2025, 8, 29))

    def made(self, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[resolve.Resolved, list[list[str]]]:
        """Return the resolved side and the calls of uv."""
        calls: list[list[str]] = []

        def run_uv(arguments: list[str], **how: Any) -> Answer:
            calls.append([*arguments, *how["stdin"].split("\n")])
            return Answer(0, BODY, "")

        monkeypatch.setattr(locks, "run_uv", run_uv)
        side = read_side([text], "--to", MATRIX)
        return resolve.resolve(side, text, MATRIX, DeviceKind.CPU, None, lambda _: None), calls

    def test_a_pin_is_resolved_as_a_row_of_its_day_would_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv gets its requirement, the matrix's other packages and the end of its day, once."""
        found, calls = self.made("trl==0.22.1", monkeypatch)
        row = MATRIX.plan(MATRIX.stack("trl0.22.0"), "3.11")
        expected = tuple("trl==0.22.1" if item == "trl==0.22.0" else item for item in row.requirements)
        assert (found.stack, found.plan.requirements, found.plan.as_of) == ("trl0.22.1-py311", expected, row.as_of)
        assert (found.plan.exempt, found.plan.excluded, found.plan.torch) == (row.exempt, row.excluded, row.torch)
        assert "2025-08-30T00:00:00Z" in calls[0]
        again, no_calls = self.made("trl==0.22.1", monkeypatch)
        assert (again, no_calls) == (found, [])

    def test_extras_are_requested_or_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This also holds for releases that are tried as a safe target; the lock of a row has no extras."""
        found, _ = self.made("trl[vllm]==0.22.1", monkeypatch)
        assert (found.stack, found.not_followed) == ("trl-vllm0.22.1-py311", ())
        other = resolve.of_release(found, "trl", Version("0.22.2"), date(2025, 9, 3), MATRIX, DeviceKind.CPU)
        assert other.stack == "trl-vllm0.22.2-py311" and "trl[vllm]==0.22.2" in other.plan.requirements
        row, _ = self.made("trl[vllm]==0.22.2", monkeypatch)
        told = ("trl[vllm]==0.22.2: the committed lock of trl0.22 has no extras",)
        assert (row.stack, row.not_followed) == ("trl0.22-py311", told)

    def test_another_content_of_a_file_is_another_lock(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """uv gets all of its packages."""
        file = tmp_path / "requirements.txt"
        file.write_text("trl==0.22.1\ntokenizers==0.22.0\n")
        one, calls = self.made(str(file), monkeypatch)
        assert {"trl==0.22.1", "tokenizers==0.22.0"} <= set(calls[0])
        file.write_text("trl==0.22.1\ntokenizers==0.22.1\n")
        other, _ = self.made(str(file), monkeypatch)
        assert one.stack != other.stack

    def test_constraints_limit_and_are_not_installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """An included file may narrow what the file names, and what others need."""
        (tmp_path / "more.txt").write_text("trl<0.23\nours>=1\n")
        file = tmp_path / "requirements.txt"
        file.write_text("-c more.txt\ntrl>=0.22\n")
        found, _ = self.made(str(file), monkeypatch)
        rest = [name for name in MATRIX.packages if name != "trl"]
        assert list(found.plan.requirements) == ["trl>=0.22", *rest, *MATRIX.tools]
        assert found.plan.constraints == ("ours>=1", "trl<0.23")

    def test_an_unreachable_registry_is_an_infrastructure_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is known about the versions."""
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(2, "", "error: Failed to fetch: `https://x`"))
        side = read_side(["trl==0.22.1"], "--to", MATRIX)
        with pytest.raises(RegistryUnreachable) as raised:
            resolve.resolve(side, "trl==0.22.1", MATRIX, DeviceKind.CPU, None, lambda _: None)
        assert str(raised.value) == (
            "trl0.22.1-py311: no lock could be made: Failed to fetch: `https://x`\n"
            "The package index did not answer, or uv itself failed.\n"
            "Check the connection and run the gate again, or name stacks of the matrix: they have locks."
        )


def test_a_lock_of_another_matrix_is_stale_for_a_row() -> None:
    """Rows use their committed locks: their header lists constraints only if there are any."""
    assert all("constrained" not in locks.facts_of(plan) for plan in MATRIX.plans(MATRIX.stack("trl0.22")))


class TestWheels:
    @pytest.mark.parametrize(
        ("allowed", "version"), [("", "2.0"), ("<2", None), ("==2.0", "2.0"), (">=3.0rc1", "3.0rc1"), (">9", None)]
    )
    def test_the_newest_release_may_have_only_a_source(
        self, monkeypatch: pytest.MonkeyPatch, allowed: str, version: str | None
    ) -> None:
        """A resolver that takes only wheels would go back years without a word."""
        names = ("x-1.0-py3-none-any.whl", "x-1.0.tar.gz", "x-2.0.tar.gz", "x-3.0rc1.tar.gz", "x-2.0.exe", "odd")
        files = [*({"filename": name} for name in names), {"filename": "x-2.1.tar.gz", "yanked": "broken"}]
        monkeypatch.setattr(index, "_files", lambda *_: files)
        assert index.newest_without_wheel("x", SpecifierSet(allowed)) == (version and Version(version))

    def test_a_package_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The resolver says so."""

        def files(*_: str) -> None:
            raise CompatError("there is no package")

        monkeypatch.setattr(index, "_files", files)
        assert index.newest_without_wheel("x", SpecifierSet()) is None
