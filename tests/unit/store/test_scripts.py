"""Cached results of scripts: what moves their address, what makes them invalid, and what is not stored."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines as p
import pytest
import store_builders as sb
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.script import Pipeline
from finetune_compat.stacks.locks import locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store import scripts, stored_files, verify
from finetune_compat.store.addresses import Installed
from finetune_compat.store.scripts import keep_script, script_recipe, stored_script
from finetune_compat.store.store import Store

MATRIX = read_matrix()
LOCK = locked(MATRIX.plan(MATRIX.stack("trl0.24"), "3.11"))
STACK = "trl0.24-py311"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Path:
    """The directory that a user runs `train.py` in."""
    monkeypatch.chdir(tmp_path)
    in_places(store=tmp_path / "store")
    (tmp_path / "train.py").write_text("rows = 'rows.json'\nwho = \"RUN_SEED\"\n")
    (tmp_path / "rows.json").write_text("[1]")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"1")
    return tmp_path


def recipe(*arguments: str, script: str = "train.py", **changes: Any) -> Recipe | None:
    """The recipe of the script."""
    environment = Installed("3.11.7", "2.13.0+cpu", triton=False)
    given = {"steps": 10, "stack": STACK, "lock": LOCK, "environment": environment, "gpus": (), **changes}
    return script_recipe((script, *arguments), **given)


def address(*arguments: str, **changes: Any) -> str:
    found = recipe(*arguments, **changes)
    assert found is not None
    return found.address


def seen(of: Recipe, **changes: Any) -> Pipeline:
    """A record that agrees with the recipe."""
    made = p.pipeline(p.run(), script="train", read=("train.py", "rows.json"))
    stack = dataclasses.replace(
        made.stack,
        name=STACK,
        lock_sha256=of.lock_sha256,
        python=of.python,
        resolved={**made.stack.resolved, "torch": of.torch},
    )
    device = dataclasses.replace(made.device, features=of.features)
    return dataclasses.replace(made, stack=stack, device=device, **changes)


def kept(**changes: Any) -> tuple[Recipe, str]:
    of = recipe()
    assert of is not None
    return of, keep_script(of, seen(of, **changes), Store.configured())


class TestTheAddress:
    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "train.py").write_text("rows = 'rows.json'\nwho = \"RUN_SEED\" \n"),
            lambda folder: (folder / "rows.json").write_text("[2]"),
            lambda folder: (folder / "weights" / "model.safetensors").write_bytes(b"2"),
            lambda folder: (folder / "weights" / "more").write_bytes(b""),
        ],
        ids=["script", "file that the script names", "file in a directory that an argument names", "new file there"],
    )
    def test_it_moves_with_the_content(self, folder: Path, change: Callable[[Path], object]) -> None:
        before = address("--model", "weights")
        change(folder)
        assert address("--model", "weights") != before

    def test_it_moves_with_arguments_steps_and_environment(self, folder: Path) -> None:
        other = Installed("3.11.7", "2.12.0+cpu", triton=False)
        found = [address(), address("--fast"), address(steps=3), address(environment=other), address(stack="x-py311")]
        assert len({*found}) == len(found)

    def test_it_moves_with_variables_that_the_script_or_libraries_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [address()]
        for name in ("RUN_SEED", "HF_HUB_OFFLINE"):
            monkeypatch.setenv(name, "7")
            found.append(address())
        assert len({*found}) == 3

    @pytest.mark.parametrize("name", ["EDITOR", "HF_TOKEN"])
    def test_it_does_not_move_with_others_and_secrets(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        before = address()
        monkeypatch.setenv(name, "7")
        assert address() == before

    def test_it_moves_with_the_sources_of_the_watch(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = address()
        monkeypatch.setattr(scripts, "sources", type("Other", (), {"watch": lambda self: "f" * 64}))
        assert address() != before

    def test_a_file_of_the_same_name_beside_the_script(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A script often finds its data from its own place."""
        (folder / "elsewhere").mkdir()
        monkeypatch.chdir(folder / "elsewhere")
        before = address(script="../train.py")
        (folder / "rows.json").write_text("[2]")
        assert address(script="../train.py") != before

    def test_the_directory_that_it_runs_in_is_not_its_content(self, folder: Path) -> None:
        before = address("--out", ".")
        (folder / "notes.txt").write_text("x")
        assert address("--out", ".") == before

    def test_a_notebook_is_read_by_its_cells(self, folder: Path) -> None:
        cell = {"cell_type": "code", "source": ["%pip install trl\n", "rows = 'rows.json'\n"]}
        (folder / "train.ipynb").write_text(json.dumps({"cells": [cell]}))
        before = address(script="train.ipynb")
        (folder / "rows.json").write_text("[2]")
        assert address(script="train.ipynb") != before

    def test_a_launcher_has_none(self, folder: Path) -> None:
        assert recipe("launch", "train.py", script="accelerate") is None

    def test_too_many_files_have_none(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "MOST_FILES", 1)
        assert recipe() is not None
        assert recipe("--model", "weights") is None


class TestTheRecord:
    def test_it_answers(self, folder: Path) -> None:
        of, problem = kept()
        found = stored_script(of, Store.configured())
        assert problem == ""
        assert found is not None and dataclasses.replace(found, read_sha256="") == seen(of)

    @pytest.mark.parametrize("file", ["train.py", "rows.json"])
    def test_it_does_not_answer_when_a_file_that_it_read_changed(self, folder: Path, file: str) -> None:
        of, _ = kept()
        (folder / file).write_text("other")
        assert stored_script(of, Store.configured()) is None

    def test_a_file_that_is_gone_is_a_change(self, folder: Path) -> None:
        of, _ = kept()
        (folder / "rows.json").unlink()
        assert stored_script(of, Store.configured()) is None

    def test_beside_a_configuration_the_whole_directory_counts(self, folder: Path) -> None:
        """Weights are opened by libraries that Python does not see."""
        (folder / "weights" / "config.json").write_text("{}")
        of, _ = kept(read=("weights/config.json",))
        assert stored_script(of, Store.configured()) is not None
        (folder / "weights" / "model.safetensors").write_bytes(b"2")
        assert stored_script(of, Store.configured()) is None

    def test_without_a_record_nothing_answers(self, folder: Path) -> None:
        of = recipe()
        assert of is not None and stored_script(of, Store.configured()) is None

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"hosts": ("huggingface.co",)}, "huggingface.co"),
            ({"hosts": ("a.example", "b.example"), "unanswered": ("a.example",)}, "it asked b.example, whose"),
            ({"read": None}, "too many files"),
        ],
    )
    def test_what_is_not_stored(self, folder: Path, changes: dict[str, Any], why: str) -> None:
        of, problem = kept(**changes)
        assert why in problem
        assert stored_script(of, Store.configured()) is None

    def test_without_a_network_it_answers_while_there_is_none(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The script has learned nothing from a machine without an address, and would not at another run."""

        def no_address(*_: object) -> object:
            raise socket.gaierror(-2, "Name or service not known")

        scripts._has_address.cache_clear()
        of, problem = kept(hosts=("a.example",), unanswered=("a.example",))
        assert problem == ""
        monkeypatch.setattr(socket, "getaddrinfo", no_address)
        assert stored_script(of, Store.configured()) is not None
        scripts._has_address.cache_clear()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("192.0.2.1", 443))])
        assert stored_script(of, Store.configured()) is None
        scripts._has_address.cache_clear()

    def test_large_files_are_not_stored(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        of = recipe()
        assert of is not None
        monkeypatch.setattr(scripts, "MOST_BYTES", 2)
        assert "too large" in keep_script(of, seen(of), Store.configured())

    def test_a_record_of_other_versions_is_refused(self, folder: Path) -> None:
        of = recipe()
        assert of is not None
        with pytest.raises(CompatError, match=r"torch 2\.13\.0"):
            keep_script(of, seen(dataclasses.replace(of, torch="2.13.0")), Store.configured())


class TestTheStore:
    """A script's results are files like those of cells."""

    def test_it_is_listed_with_its_seconds(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kept()
        assert sb.compat("ls") == 0
        listed = capsys.readouterr().out
        assert f"{STACK}/train@cpu" in listed and "1 cells in" in listed

    def test_it_is_verified(self, folder: Path) -> None:
        of, _ = kept()
        root = Store.configured().root
        assert verify.verify(root).whole == 1
        (name,) = stored_files.names(root)[of.address]
        path = stored_files.path_of(root, name)
        path.write_text(path.read_text().replace('"steps":10', '"steps":11'))
        assert not verify.verify(root).sound

    def test_it_is_reachable_with_the_sources_of_this_checkout(self, folder: Path) -> None:
        from finetune_compat.store.prune import survey

        kept()
        assert [one.reachable for one in survey(Store.configured().root, unreachable=True)] == [True]
