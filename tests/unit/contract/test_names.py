"""A name that becomes part of a path cannot leave its directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.names import LONGEST, check_run_id, is_plain, is_run_id, is_stack, shortened
from hypothesis import given
from hypothesis import strategies as st

LEADS_AWAY = (
    *("", ".", "..", "/", "/etc/x", "a/b", "../x", "a/", "./a", "a//b", "..\\x", "a\\b", "C:x", "C:\\x"),
    *("a\0b", "a\nb", "a" * (LONGEST + 1), None, 5, ["a"]),
)


@pytest.mark.parametrize("name", LEADS_AWAY)
def test_a_name_is_a_single_path_component(name: object) -> None:
    """A value that is no text, as in a hand-made file, is refused too."""
    assert not is_plain(name) and not is_run_id(name) and not is_stack(name)


@pytest.mark.parametrize("name", ["latest", ".lock", ".answers", "-x", "a b", "é"])
def test_reserved_names_are_refused_for_runs(name: str) -> None:
    """This covers the link to the newest run, hidden files of the harness, and words that a shell reads as options."""
    assert not is_run_id(name)


@pytest.mark.parametrize("name", ["20260101T000000Z-abcd", "nightly-7-1", "gate-12-1", "one", "latest-1"])
def test_names_that_runs_have(name: str) -> None:
    """These are made by the harness and by its workflows."""
    assert is_run_id(name)


@pytest.mark.parametrize(
    "name", ["trl0.22-py311", "requirements-0a1b2c3d-py312", "torch2.13.0+cpu-py311", "x1!2-py311"]
)
def test_names_that_stacks_have(name: str) -> None:
    """Rows of the matrix, files, local versions and epochs are valid."""
    assert is_stack(name)


@given(st.text(max_size=300))
def test_a_plain_name_is_a_file_of_its_directory(name: str) -> None:
    """This holds for any text."""
    if is_plain(name):
        assert (Path("/runs") / name).parent == Path("/runs") and Path("/runs", name).resolve().parent == Path("/runs")


@given(st.text("abc0123456789.-", min_size=1, max_size=600), st.text("abc0123456789.-", min_size=1, max_size=600))
def test_a_long_name_is_shortened_and_stays_unique(one: str, other: str) -> None:
    """With its Python appended it is still a valid name."""
    assert is_plain(f"{shortened(one)}-py311")
    assert (shortened(one) == shortened(other)) is (one == other)


def test_the_error_says_what_a_name_may_contain() -> None:
    """The message also says where the name was found."""
    with pytest.raises(CompatError) as raised:
        check_run_id("latest", "COMPAT_RUN_ID")
    assert str(raised.value) == (
        "COMPAT_RUN_ID: 'latest' cannot be the name of a run\n"
        "It becomes a directory below reports/runs, where `latest` is the link to the newest run.\n"
        "Use letters, digits, dots, dashes and underscores, such as nightly-42."
    )
    assert raised.value.exit_code is ExitCode.BAD_INPUT
