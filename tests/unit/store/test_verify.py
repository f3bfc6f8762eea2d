"""`compat store verify`: damage, and observations that disagree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode
from finetune_compat.store import stored_files
from finetune_compat.store.verify import differences
from store_builders import NEW, OLD, compat, seen, store, stored_object


def test_a_sound_store_is_reported_as_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of a cell may differ in duration and CPU."""
    elsewhere = seen(duration_s=9.0, started_at="later", device=replace(seen().device, name="Another CPU"), memory=None)
    for each in (stored_object(at=OLD), stored_object(elsewhere, NEW)):
        stored_files.write(store().root, each)
    assert compat("verify") == ExitCode.HEALTHY
    assert capsys.readouterr().out == f"2 whole, 0 damaged, 0 disagree, in {store().root}\n"


def test_a_missing_store_is_reported_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped path must not be reported as a sound store."""
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path / "nowhere"))
    assert compat("verify") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == (
        f"{tmp_path}/nowhere: there is no store to verify\n"
        "No cell has run with this directory as its store, or COMPAT_STORE names the wrong directory.\n"
        "`compat run` makes it. `compat store verify --remote` verifies the shared store.\n"
    )
    assert compat("ls") == 0
    assert capsys.readouterr().out == (
        f"0 cells in {tmp_path}/nowhere, which does not exist yet: COMPAT_STORE names the directory\n"
    )


@pytest.mark.parametrize(
    ("below", "said"), [("", "this is a file"), ("/a/b", "the store cannot be created: {file} is a file")]
)
def test_a_file_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], below: str, said: str
) -> None:
    """The message has the variable and the remedy."""
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("COMPAT_STORE", f"{file}{below}")
    assert compat("ls") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == (
        f"COMPAT_STORE: {file}{below}: {said.format(file=file)}\n"
        "The store is a directory with a file for each observation.\n"
        "Set COMPAT_STORE to a directory. It is created when the first cell has run.\n"
    )


def test_the_shared_store_is_verified_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its damaged files are named, and nothing is copied."""
    shared = tmp_path / "shared"
    stored_files.write(shared, stored_object())
    damaged = stored_files.write(shared, stored_object(seed=99))
    stored_files.path_of(shared, damaged).write_text("cut off")
    assert compat("verify", "--remote") == ExitCode.BAD_INPUT
    assert "COMPAT_STORE_REMOTE: there is no shared store" in capsys.readouterr().err
    monkeypatch.setenv("COMPAT_STORE_REMOTE", f"file://{shared}")
    assert compat("verify", "--remote") == ExitCode.UNHEALTHY
    assert capsys.readouterr().out.splitlines() == [
        f"damaged: {damaged}: its content does not match the digest in its name",
        f"1 whole, 1 damaged, 0 disagree, in file://{shared}",
    ]
    assert stored_files.names(store().root) == {}


def test_damage_and_disagreement_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the file and the reason, or the cell and the differing facts."""
    damaged = stored_files.write(store().root, stored_object(seed=99))
    stored_files.path_of(store().root, damaged).write_text("cut off")
    training = replace(seen().training, eval_after=1.0)  # type: ignore[type-var]
    for each in (stored_object(at=OLD), stored_object(seen(training=training), NEW)):
        stored_files.write(store().root, each)
    assert compat("verify") == ExitCode.UNHEALTHY
    assert capsys.readouterr().out.splitlines() == [
        f"damaged: {damaged}: its content does not match the digest in its name",
        f"disagree: {seen().cell} at {stored_object().recipe.address[:12]}: training.eval_after",
        f"2 whole, 1 damaged, 1 disagree, in {store().root}",
    ]


def test_an_observation_under_a_recipe_it_contradicts_is_damage(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is whole, but does not belong to its address."""
    other = replace(stored_object(), recipe=stored_object(torch="9.9").recipe)
    name = stored_files.write(store().root, other)
    assert compat("verify", "--json") == ExitCode.UNHEALTHY
    found = json.loads(capsys.readouterr().out)["damaged"]
    assert found[name].startswith("the observation is not of its recipe: torch ")


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({"a": 1.0}, {"a": 1.0000001}, []),
        ({"a": 1.0}, {"a": 1.1}, ["a"]),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]"]),
        ({"a": [1]}, {"a": [1, 3]}, ["a"]),
        ({"a": {"b": None}}, {"a": {"b": "x"}}, ["a.b"]),
        ({"a": {"duration_s": 1}}, {"a": {"duration_s": 2}}, []),
        ({"weights_sha256": "a"}, {"weights_sha256": "b"}, ["weights_sha256"]),
        ({}, {"a": 0.0}, ["a"]),
    ],
)
def test_differing_facts_are_named(one: object, other: object, where: list[str]) -> None:
    """The last digits of a sum do not count."""
    assert list(differences(one, other)) == where
