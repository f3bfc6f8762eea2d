"""The command line: what it prints, where it prints it, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_compat import cli
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.stacks import locks, matrix
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from stack_builders import BODY

ROOT = PACKAGE.parents[1]


def run(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return int(caught.value.code or 0)


class TestCatcher:
    def test_a_compat_error_prints_its_message_and_sets_the_exit_code(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is printed on stdout, and no traceback."""

        def fail() -> None:
            raise CompatError("it is wrong", where="here", meaning="It was.", todo="Right it.")

        monkeypatch.setattr(matrix, "read_matrix", fail)
        assert run("stacks") == ExitCode.BAD_INPUT
        assert capsys.readouterr() == ("", "here: it is wrong\nIt was.\nRight it.\n")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["stacks", "--yaml"], "No such option: --yaml"),
            (["stakcs"], "No such command 'stakcs'. Did you mean 'stacks'?"),
            ([], "Missing command."),
        ],
    )
    def test_a_usage_error_is_bad_input(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        """The exit code is 4 as for all bad input, not typer's 2."""
        assert run(*arguments) == ExitCode.BAD_INPUT
        assert capsys.readouterr().err == f"{message}\nSee `compat --help`.\n"

    def test_a_mistyped_stack_is_answered_with_names(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The names are suggested before anything is resolved."""
        assert run("lock", "trl0.2222") == ExitCode.BAD_INPUT
        assert capsys.readouterr().err == (
            "matrices/stacks.toml: there is no stack 'trl0.2222'\n"
            "Names that look like it: trl0.22, trl0.22.0, trl0.29.\n"
            "`compat stacks` lists all of them.\n"
        )

    def test_an_interrupt_ends_quietly(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The exit code is the shell's code for an interrupt."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(matrix, "read_matrix", interrupt)
        assert run("stacks") == 130
        assert capsys.readouterr().err == ""


class TestStacks:
    def test_json_holds_every_row_with_what_it_resolved_to(self, capsys: pytest.CaptureFixture[str]) -> None:
        """There is one object per row, and each of its locks has a state."""
        assert run("stacks", "--json") == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert list(rows) == [stack.name for stack in read_matrix().stacks]
        flagship = rows["trl0.22"]
        assert (flagship["pin"], flagship["as_of"], flagship["pythons"]) == (
            "trl==0.22.2",
            "2025-09-03",
            ["3.11", "3.12"],
        )
        assert flagship["locks"]["trl0.22-py311"]["resolved"]["peft"] == "0.17.1"

    def test_the_table_cuts_no_version_off(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Versions are whole even if the terminal is narrow."""
        assert run("stacks") == 0
        table = capsys.readouterr().out
        assert "…" not in table
        assert "  transformers4.57   2026-01-16   3.11        0.27.0   4.57.6 " in table

    def test_a_row_without_a_usable_lock_says_why(
        self, capsys: pytest.CaptureFixture[str], in_places: Any, tmp_path: Any
    ) -> None:
        """A stale, missing or unsolvable lock belongs to the row and is not an error of the command."""
        shutil.copy(places().stacks, tmp_path)
        in_places(matrices=tmp_path)
        assert run("stacks", "--json") == 0
        (row, *_) = json.loads(capsys.readouterr().out)
        assert row["locks"]["trl0.4-py311"] == {"state": "unusable", "reason": "there is no lock"}


class TestLock:
    def test_each_outcome_and_a_count_are_printed(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_places: Any, tmp_path: Any
    ) -> None:
        """It prints the outcome of each lock and a count; the exit code is that of the worst outcome."""
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(0, BODY, ""))
        shutil.copy(places().stacks, tmp_path)
        in_places(matrices=tmp_path)
        assert run("lock", "trl1.16") == 0
        lines = capsys.readouterr().out.splitlines()
        assert min(lines[:-1]).startswith("[1/2] trl1.16-py31")
        assert lines[-1] == "2 locked"
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(2, "", "error: dns error"))
        assert run("lock", "trl1.16") == ExitCode.COULD_NOT_TELL


class TestStart:
    @pytest.mark.parametrize(
        ("arguments", "left_out"),
        [
            (["--help"], {"pydantic", "finetune_compat.stacks.matrix", "nox", "torch", "numpy"}),
            # Invalid words are refused after the request is known and before anything runs.
            (["run", "--device", "cpu", "-k", "("], {"nox", "jinja2", "rich.progress", "finetune_compat.report"}),
            (
                ["stacks", "--json"],
                {"nox", "torch", "numpy", "rich.table", "finetune_compat.report", "finetune_compat.run.stack_run"},
            ),
        ],
    )
    def test_a_command_imports_what_it_needs_and_nothing_else(self, arguments: list[str], left_out: set[str]) -> None:
        """A command starts fast because it does not import what only other commands need."""
        names = "print(*sys.modules, file=sys.stderr)"
        code = f"import sys, finetune_compat.cli\ntry: finetune_compat.cli.main(sys.argv[1:])\nfinally: {names}"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        imported = set(done.stderr.split())
        assert "finetune_compat.cli" in imported and not imported & left_out
        assert done.returncode == (ExitCode.BAD_INPUT if "(" in arguments else ExitCode.HEALTHY)


class TestWatch:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["--python", "a", "--stack", "b", "train.py"],
                "compat watch: --python and --stack exclude each other\nName one environment to run in.\n",
            ),
            (
                ["--setps", "3", "train.py"],
                "No such option: --setps (Possible options: --help, --steps)\nSee `compat --help`.\n",
            ),
            ([], "Missing argument 'SCRIPT [ARGUMENT]...'.\nSee `compat --help`.\n"),
        ],
    )
    def test_bad_input_is_refused_before_anything_runs(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        """As in every command: one message and exit code 4."""
        assert run("watch", *arguments) == ExitCode.BAD_INPUT
        assert capsys.readouterr() == ("", message)

    def test_the_script_gets_its_own_options(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Arguments after the script belong to the script, whatever they look like."""
        from finetune_compat.watch import host
        from pipelines import pipeline
        from pipelines import run as healthy

        called: list[Any] = []
        monkeypatch.chdir(tmp_path)
        (tmp_path / "train.py").touch()
        monkeypatch.setattr(host, "own_interpreter", called.append)
        monkeypatch.setattr(host, "run_pipeline", lambda *given, **_: called.append(given) or pipeline(healthy()))
        assert run("watch", "--steps", "4", "train.py", "--steps", "900", "--json") == ExitCode.HEALTHY
        assert called == [None, (["train.py", "--steps", "900", "--json"], None, 4)]
