"""The matrix: parsing, what follows from it, and the errors of invalid files."""

from __future__ import annotations

import contextlib
import copy
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from finetune_compat.contract.errors import ExitCode, MatrixError, UnknownName
from finetune_compat.contract.records import DeviceKind
from finetune_compat.stacks.locks import facts_of
from finetune_compat.stacks.matrix import Matrix, parse_matrix, read_matrix, session_of
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from stack_builders import FLOOR, document, row


def faults(data: dict[str, Any]) -> list[str]:
    """Return the errors of `data`, formatted for users."""
    with pytest.raises(MatrixError) as caught:
        parse_matrix(data)
    return [str(fault) for fault in caught.value.faults]


class TestNames:
    def test_a_stack_is_named_after_the_minor_of_its_pin(self) -> None:
        """A minor means its newest patch, so the name has no patch."""
        stack = parse_matrix(document()).stacks[0]
        assert (stack.name, stack.on("3.11")) == ("trl0.22", "trl0.22-py311")

    def test_a_patch_can_be_a_stack(self) -> None:
        """With a label, there can be two patches of one minor."""
        matrix = parse_matrix(document(row(), row(pin="0.22.0", label="0.22.0")))
        assert [stack.name for stack in matrix.stacks] == ["trl0.22", "trl0.22.0"]

    def test_an_unknown_name_is_refused_with_similar_names(self) -> None:
        """A mistyped stack is bad input, and the message has similar names."""
        with pytest.raises(UnknownName) as caught:
            parse_matrix(document()).stack("trl-0.22")
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert str(caught.value) == (
            "matrices/stacks.toml: there is no stack 'trl-0.22'\n"
            "Names that look like it: trl0.22.\n"
            "`compat stacks` lists all of them."
        )


class TestUnpinned:
    """Stacks that pin nothing: what an index gives."""

    UNPINNED: ClassVar = {"name": "latest", "as_of": date(2026, 11, 30), "why": "what pip installs"}

    def test_the_resolver_gets_the_bare_names_as_of_its_day(self) -> None:
        """Nothing is pinned, so every package is as new as its bounds let it be."""
        matrix = parse_matrix(document(unpinned=[self.UNPINNED]))
        plan = matrix.plan(matrix.stack("latest"), "3.11")
        assert plan.requirements == ("trl", "transformers", "bitsandbytes", "pytest")
        assert (plan.name, plan.as_of, plan.prereleases) == ("latest-py311", date(2026, 11, 30), False)

    def test_its_session_is_named_after_it(self) -> None:
        """The name of the stack gives the session, and the other way round."""
        stack = parse_matrix(document(unpinned=[self.UNPINNED])).stack("latest")
        assert stack.session("3.11") == session_of("latest-py311") == "compat-3.11(stack='latest')"
        assert session_of("trl0.22-py311") == "compat-3.11(trl='0.22')"

    def test_pre_releases_are_permitted_only_where_the_row_says_so(self) -> None:
        """The header of the lock says it, and other locks do not change."""
        unpinned = [self.UNPINNED, self.UNPINNED | {"name": "pre", "prereleases": True}]
        matrix = parse_matrix(document(unpinned=unpinned))
        facts = {name: facts_of(matrix.plan(matrix.stack(name), "3.11")) for name in ("trl0.22", "latest", "pre")}
        assert {name: found.get("prereleases") for name, found in facts.items()} == {
            "trl0.22": None,
            "latest": None,
            "pre": "allowed",
        }

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"name": "Latest 1"}, "unpinned[0].name: 'Latest 1' is not a name such as 'latest'"),
            ({"why": " "}, "unpinned[0].why: is empty; it must state a reason"),
            ({"pin": "1.0"}, "unpinned[0].pin: is not a key this file knows"),
        ],
    )
    def test_a_fault_is_named_with_its_place(self, change: dict[str, str], problem: str) -> None:
        """As for every other table."""
        assert faults(document(unpinned=[self.UNPINNED | change])) == [problem]

    def test_a_name_stands_once(self) -> None:
        """Two stacks of one name could not be told apart in a report."""
        found = faults(document(unpinned=[self.UNPINNED, self.UNPINNED]))
        assert found == ["unpinned[1]: 'latest' is already at unpinned[0]"]


class TestAsOf:
    def test_a_release_after_the_floor_keeps_its_own_day(self) -> None:
        """The floor only moves older releases."""
        assert parse_matrix(document()).stacks[0].as_of == date(2025, 9, 3)

    def test_an_older_release_takes_the_whole_floor_day(self) -> None:
        """Its companions are those of the floor day, so that quantization runs on a CPU."""
        assert parse_matrix(document(row(pin="0.9.6", released=date(2024, 7, 8)))).stacks[0].as_of == FLOOR

    def test_a_row_may_keep_its_own_day_with_a_reason(self) -> None:
        """The override holds on every device, and the reason is stored."""
        matrix = parse_matrix(document(row(released=date(2024, 7, 8), as_of=date(2024, 8, 1), why="it breaks later")))
        stack = matrix.stacks[0]
        assert (stack.as_of, stack.why) == (date(2024, 8, 1), "it breaks later")
        assert {plan.as_of for plan in matrix.plans(stack)} == {date(2024, 8, 1)}

    @given(st.dates(date(2023, 1, 1), date(2027, 1, 1)))
    def test_the_day_of_a_row_is_never_before_its_release_nor_before_the_floor(self, released: date) -> None:
        """as_of = max(release day, floor day), for every release day."""
        assert parse_matrix(document(row(released=released))).stacks[0].as_of == max(released, FLOOR)


class TestPlans:
    def test_a_pin_replaces_the_name_of_its_package_only(self) -> None:
        """The resolver chooses the other packages, and gets the tools too."""
        matrix = parse_matrix(document())
        assert matrix.plan(matrix.stacks[0], "3.11").requirements == (
            "trl==0.22.2",
            "transformers",
            "bitsandbytes",
            "pytest",
        )

    def test_an_older_release_has_a_lock_of_its_real_day_for_gpus(self) -> None:
        """The floor exists for CPUs; a GPU runs the versions of the release's day."""
        matrix = parse_matrix(document(row(pin="0.9.6", released=date(2024, 7, 8))))
        plan = matrix.plan(matrix.stacks[0], "3.11", DeviceKind.CUDA)
        assert (plan.name, plan.as_of) == ("trl0.9-py311-cuda", date(2024, 7, 8))

    def test_a_gpu_has_a_lock_of_its_own_where_an_exemption_makes_a_difference(self) -> None:
        """The day is the same, and bitsandbytes differs: there are two locks."""
        matrix = parse_matrix(document())
        assert [plan.name for plan in matrix.plans(matrix.stacks[0])] == ["trl0.22-py311", "trl0.22-py311-cuda"]

    def test_both_devices_share_a_lock_where_nothing_differs(self) -> None:
        """Two plans with equal requests share a lock."""
        matrix = parse_matrix(document(row(pin="1.16.0", released=date(2026, 10, 15))))
        stack = matrix.stacks[0]
        assert [plan.name for plan in matrix.plans(stack)] == ["trl1.16-py311"]
        assert matrix.plan(stack, "3.11", DeviceKind.CUDA) == matrix.plan(stack, "3.11", DeviceKind.CPU)

    def test_an_exemption_never_makes_a_package_older(self) -> None:
        """An exemption that ended before the row's day is not passed on."""
        matrix = parse_matrix(document(row(released=date(2026, 10, 15))))
        assert matrix.plan(matrix.stacks[0], "3.11").exempt == {}

    @given(st.dates(date(2023, 1, 1), date(2027, 1, 1)), st.sampled_from(DeviceKind))
    def test_every_exemption_in_a_plan_is_later_than_its_day(self, released: date, device: DeviceKind) -> None:
        """This holds for every release day and device."""
        matrix = parse_matrix(document(row(released=released)))
        plan = matrix.plan(matrix.stacks[0], "3.11", device)
        assert all(until > plan.as_of for until in plan.exempt.values())


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "bad version": (document(row(pin="0.22.x")), ["axes[0].stacks[0].pin: '0.22.x' is not a version such as '0.22.2'"]),
    "pin not text": (document(row(pin=0.22)), ["axes[0].stacks[0].pin: must be text, not 0.22"]),
    "pin missing": (document({"released": date(2025, 9, 3)}), ["axes[0].stacks[0].pin: is missing"]),
    "released missing": (document({"pin": "0.22.2"}), ["axes[0].stacks[0].released: is missing"]),
    "released quoted": (
        document(row(released="2025-09-03")),
        ["axes[0].stacks[0].released: must be a day such as 2025-08-29 (without quotes), not '2025-09-03'"],
    ),
    "unknown key": (document(row(labell="0.22")), ["axes[0].stacks[0].labell: is not a key this file knows"]),
    "unknown table": (document(extra={}), ["extra: is not a key this file knows"]),
    "row is no table": (document("0.22.2"), ["axes[0].stacks[0]: must be a table, not '0.22.2'"]),  # type: ignore[arg-type]
    "python format": (
        document(row(pythons=["py311"])),
        ["axes[0].stacks[0].pythons[0]: 'py311' is not a Python such as '3.11'"],
    ),
    "no python": (document(row(pythons=[])), ["axes[0].stacks[0].pythons: is empty"]),
    "pythons no list": (document(row(pythons="3.11")), ["axes[0].stacks[0].pythons: must be a list, not '3.11'"]),
    "override without reason": (
        document(row(as_of=date(2025, 9, 4))),
        ["axes[0].stacks[0].why: is missing: a row that sets as_of must state the reason"],
    ),
    "reason without override": (
        document(row(why="because")),
        ["axes[0].stacks[0].why: gives a reason for as_of, but the row does not set as_of"],
    ),
    "empty reason": (
        document(row(as_of=date(2025, 9, 4), why=" ")),
        ["axes[0].stacks[0].why: is empty; it must state a reason"],
    ),
    "as_of before release": (
        document(row(as_of=date(2025, 9, 2), why="because")),
        ["axes[0].stacks[0].as_of: 2025-09-02 is before the release on 2025-09-03: the pin did not exist yet"],
    ),
    "label of another version": (
        document(row(label="0.21")),
        ["axes[0].stacks[0].label: the pin '0.22.2' does not begin with '0.21'"],
    ),
    "label not a version": (
        document(row(label="newest")),
        ["axes[0].stacks[0].label: 'newest' is not a label such as '0.22' or '0.22.0'"],
    ),
    "same name twice": (
        document(row(), row(pin="0.22.1")),
        ["axes[0].stacks[1]: 'trl0.22' is already at axes[0].stacks[0]"],
    ),
    "same axis twice": (
        document(axes=[{"package": "trl", "stacks": [row()]}, {"package": "trl", "stacks": [row(pin="0.21.0")]}]),
        ["axes[1].package: 'trl' is already at axes[0].package"],
    ),
    "axis of an unknown package": (
        document(axes=[{"package": "unsloth", "stacks": [row()]}]),
        ["axes[0].package: 'unsloth' is not one of resolve.packages"],
    ),
    "axis without rows": (document(axes=[{"package": "trl", "stacks": []}]), ["axes[0].stacks: is empty"]),
    "no axis": (document(axes=[]), ["axes: is empty"]),
    "axes no list": (document(axes={"package": "trl"}), ["axes: must be a list, not {'package': 'trl'}"]),
    "package not canonical": (
        document(torch={"version": "2.13.0", "platform": ["NVIDIA_nccl"]}),
        [
            "torch.platform[0]: 'NVIDIA_nccl' is not a package name in its canonical form, such as 'huggingface-hub'",
        ],
    ),
    "unknown device": (
        document(exempt=[{"package": "torch", "until": FLOOR, "why": "because", "device": "tpu"}]),
        ["exempt[0].device: must be 'cpu' or 'cuda', not 'tpu'"],
    ),
    "same exemption twice": (
        document(exempt=[{"package": "torch", "until": FLOOR, "why": "because"}] * 2),
        ["exempt[1].package: 'torch' is already at exempt[0].package"],
    ),
    "exemption without reason": (
        document(exempt=[{"package": "torch", "until": FLOOR}]),
        ["exempt[0].why: is missing"],
    ),
}


class TestRefusal:
    @pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD.keys())
    def test_a_fault_is_named_with_its_place(self, data: dict[str, Any], expected: list[str]) -> None:
        """One error has one message, with its path and the expected value."""
        assert faults(data) == expected

    @pytest.mark.parametrize("table", ["torch", "resolve", "axes"])
    def test_a_missing_table_is_one_fault(self, table: str) -> None:
        """The other tables are still read and have no errors."""
        data = document()
        del data[table]
        assert faults(data) == [f"{table}: is missing"]

    def test_every_fault_of_the_file_is_reported_at_once(self) -> None:
        """Errors of the top level, of tables, of rows and between rows are in one message."""
        data = document(row(pin="x"), row(), row(), row(pin="0.1.0", why="because"), typo=1)
        del data["torch"]
        data["axes"][0]["package"] = "TRL"
        assert faults(data) == [
            "typo: is not a key this file knows",
            "torch: is missing",
            "axes[0].package: 'TRL' is not a package name in its canonical form, such as 'huggingface-hub'",
            "axes[0].stacks[0].pin: 'x' is not a version such as '0.22.2'",
            "axes[0].stacks[2]: 'TRL0.22' is already at axes[0].stacks[1]",
            "axes[0].stacks[3].why: gives a reason for as_of, but the row does not set as_of",
        ]

    def test_the_message_names_the_file_counts_the_faults_and_says_what_to_do(self) -> None:
        """The test has the whole message."""
        with pytest.raises(MatrixError) as caught:
            parse_matrix(document(row(pin="x"), row(pythons=["3"])))
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert str(caught.value) == (
            "matrices/stacks.toml: 2 faults\n"
            "  axes[0].stacks[0].pin: 'x' is not a version such as '0.22.2'\n"
            "  axes[0].stacks[1].pythons[0]: '3' is not a Python such as '3.11'\n"
            "Correct each of these places; the file's own comments say what they hold."
        )

    def test_a_missing_file_is_reported(self, tmp_path: Path) -> None:
        """No traceback is printed."""
        with pytest.raises(MatrixError) as caught:
            read_matrix(tmp_path / "stacks.toml")
        assert str(caught.value) == f"{tmp_path}/stacks.toml: 1 fault\n  the file does not exist\nRestore it from git."

    def test_text_that_is_not_toml_is_named_with_its_line(self, tmp_path: Path) -> None:
        """The decoder's position is in the message."""
        path = tmp_path / "stacks.toml"
        path.write_text("[torch]\nversion = \n")
        with pytest.raises(MatrixError) as caught:
            read_matrix(path)
        assert str(caught.value) == (
            f"{path}: 1 fault\n"
            "  not a readable TOML file: Invalid value (at line 2, column 11)\n"
            "Correct the file at that place."
        )

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.dates(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        ),
        st.sampled_from(["torch", "resolve", "axes", "exempt", "typo"]),
    )
    def test_every_invalid_value_is_reported(self, value: Any, table: str) -> None:
        """Any value gives a matrix or a MatrixError, never another exception."""
        with contextlib.suppress(MatrixError):
            assert isinstance(parse_matrix(document() | {table: value}), Matrix)

    @given(st.data())
    def test_a_row_with_any_key_removed_or_misspelt_is_reported_at_that_row(self, data: st.DataObject) -> None:
        """The path of the error is that of the row."""
        whole = document(row(), row(pin="0.23.1"))
        index = data.draw(st.integers(0, 1))
        key = data.draw(st.sampled_from(["pin", "released"]))
        broken = copy.deepcopy(whole)
        broken["axes"][0]["stacks"][index][f"{key}_"] = broken["axes"][0]["stacks"][index].pop(key)
        assert sorted(faults(broken)) == sorted(
            [
                f"axes[0].stacks[{index}].{key}: is missing",
                f"axes[0].stacks[{index}].{key}_: is not a key this file knows",
            ]
        )


class TestCommittedFile:
    """The file matrices/stacks.toml."""

    def test_every_trl_minor_from_0_9_on_is_a_stack(self) -> None:
        """No minor is missing between the first and the last."""
        labels = {stack.label for stack in read_matrix().stacks if stack.package == "trl"}
        newest = max((Version(label) for label in labels), key=lambda label: label.release[:2])
        assert labels >= {f"0.{minor}" for minor in range(9, 30)}
        assert labels >= {f"1.{minor}" for minor in range(newest.minor + 1)}
        assert labels >= {"0.22.0", "0.23.0"}

    def test_rows_are_in_the_order_of_their_releases(self) -> None:
        """Reports show versions in the order of the rows."""
        for package in ("trl", "transformers", "peft"):
            pins = [Version(stack.pin) for stack in read_matrix().stacks if stack.package == package]
            assert pins == sorted(pins)

    def test_no_row_is_from_the_future_of_its_day(self) -> None:
        """A row's day is at most a few years after its release: a mistyped year would be more."""
        for stack in read_matrix().stacks:
            assert timedelta(0) <= stack.as_of - stack.released < timedelta(days=1000)
