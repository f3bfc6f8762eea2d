"""noxfile.py as nox reads it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.options import HELP
from finetune_compat.machine.places import PACKAGE
from finetune_compat.stacks.matrix import read_matrix

ROOT = PACKAGE.parents[1]


def nox(*arguments: str, root: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run nox on the noxfile of `root`."""
    command = [sys.executable, "-m", "nox", "-f", str(root / "noxfile.py"), "--no-color", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NOX", "COMPAT", "FORCE_"))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**inherited, **environ})


@cache
def listed(*selection: str) -> list[dict[str, Any]]:
    """The sessions that nox would run."""
    answer = nox("--list", "--json", *selection)
    assert answer.returncode == 0, answer.stderr
    sessions: list[dict[str, Any]] = json.loads(answer.stdout)
    return sessions


def ids(*selection: str) -> list[str]:
    """The ids of these sessions."""
    return [session["session"] for session in listed(*selection)]


class TestSessions:
    @pytest.mark.parametrize(
        "name",
        [
            "compat-3.11(trl='0.22')",
            "compat-3.11(transformers='4.57')",
            "compat-3.11(peft='0.17')",
            "compat-3.11(stack='latest')",
        ],
    )
    def test_a_stack_is_a_session_by_its_axis_and_label(self, name: str) -> None:
        """Exactly this spelling selects exactly this session."""
        assert ids("-s", name) == [name]

    def test_a_python_selects_all_of_its_stacks_and_no_other(self) -> None:
        """The sessions are in the order of the matrix."""
        for python in read_matrix().pythons:
            expected = [stack.session(python) for stack in read_matrix().stacks if python in stack.pythons]
            assert ids("-s", f"compat-{python}") == expected

    def test_without_a_name_only_the_harness_is_checked(self) -> None:
        """Nothing that takes minutes starts by default."""
        assert ids() == ["tests", "lint"]

    def test_every_session_has_a_one_line_description(self) -> None:
        """`nox -l` shows one sentence per session in the width of a terminal."""
        names = ["tests", "lint", "lock", "report", "gate", "compat-3.11"]
        sentences = {session["description"] for session in listed("-s", *names)}
        assert len(sentences) == len(names)
        assert all(sentence.endswith(".") and len(sentence) < 90 for sentence in sentences)

    def test_an_unknown_stack_is_reported(self) -> None:
        """One line is printed and no traceback."""
        answer = nox("-s", "compat-3.11(trl='9.9')")
        assert answer.returncode == 3
        assert answer.stderr.endswith("Sessions not found: compat-3.11(trl='9.9')\n")
        assert "Traceback" not in answer.stderr

    def test_parameters_can_be_written_as_json(self) -> None:
        """nox writes parameters as JSON when sessions run in parallel; it fails a session whose parameters it cannot
        write.
        """
        assert listed("-s", "compat-3.11(trl='0.22')")[0]["call_spec"] == {"name": "trl0.22"}


class TestFile:
    def test_the_docstring_names_every_argument(self) -> None:
        """The docstring lists the arguments after `--`: cells, instead of cells, and the source of packages."""
        options = [f"--{name}" for name in HELP]
        told = ast.get_docstring(ast.parse((ROOT / "noxfile.py").read_text())) or ""
        assert len(options) > 15
        assert [option for option in options if not re.search(rf"{option}\b(?!-)", told)] == []

    def test_it_holds_no_version_of_any_stack(self) -> None:
        """Versions are in matrices/; those in the docstring are examples."""
        code = (ROOT / "noxfile.py").read_text().split('"""', 2)[2]
        for stack in (stack for stack in read_matrix().stacks if stack.package):
            assert f'"{stack.pin}"' not in code and f'"{stack.label}"' not in code

    def test_any_nox_can_run_it_from_a_fresh_clone(self) -> None:
        """The script block has exactly the requirements of pyproject.toml."""
        block = (ROOT / "noxfile.py").read_text().partition("# ///\n")[0]
        script = tomllib.loads("".join(f"{line[2:]}\n" for line in block.splitlines()[1:]))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert sorted(script["dependencies"]) == sorted(project["optional-dependencies"]["host"])
        assert script["requires-python"] == project["requires-python"]

    def test_a_malformed_matrix_is_its_own_message_and_exit_code(self, tmp_path: Path) -> None:
        """Every error is listed, without a traceback and without a session."""
        shutil.copy(ROOT / "noxfile.py", tmp_path)
        shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "matrices").mkdir()
        text = (ROOT / "matrices" / "stacks.toml").read_text()
        (tmp_path / "matrices" / "stacks.toml").write_text(text.replace('version = "2.13.0"', "version = 2.13"))
        answer = nox("-l", root=tmp_path)
        assert (answer.returncode, answer.stdout) == (4, "")
        assert answer.stderr == (
            "matrices/stacks.toml: 1 fault\n"
            "  torch.version: must be text, not 2.13\n"
            "Correct each of these places; the file's own comments say what they hold.\n"
        )

    @pytest.mark.parametrize(("given", "shown"), [({"COMPAT_RUN_ID": "mine"}, "mine"), ({}, "20")])
    def test_parallel_sessions_share_one_run(self, given: dict[str, str], shown: str) -> None:
        """A child process inherits the run id of its parent; only the parent creates one."""
        code = "import os, noxfile; print(os.environ['COMPAT_RUN_ID'], 'PYTHONDONTWRITEBYTECODE' in os.environ)"
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        environ.pop("COMPAT_RUN_ID", None)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**environ, **given}
        )
        assert done.stdout.startswith(shown) and done.stdout.endswith(" False\n")

    @pytest.mark.parametrize("run_id", ["latest", ".lock", "../x", "a/b", ""])
    def test_a_run_id_that_means_something_else_is_refused(self, run_id: str) -> None:
        """It is refused before any session, and no run is written under that id."""
        answer = nox("-l", COMPAT_RUN_ID=run_id)
        assert (answer.returncode, answer.stdout) == (4, "")
        assert answer.stderr == (
            f"COMPAT_RUN_ID: {run_id!r} cannot be the name of a run\n"
            "It becomes a directory below reports/runs, where `latest` is the link to the newest run.\n"
            "Use letters, digits, dots, dashes and underscores, such as nightly-42.\n"
        )

    def test_a_gate_is_no_run_of_the_matrix(self) -> None:
        """The gate does not get the run id of nox, because nox would report the gate's run at its end."""
        code = (
            "import noxfile, types; told = []; "
            "session = types.SimpleNamespace(posargs=['--from', 'a'], run=lambda *a, **k: told.append((a[1:], k))); "
            "noxfile.gate(session); print(told)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        words = "('-m', 'finetune_compat', 'gate', '--from', 'a')"
        assert done.stdout == f"[({words}, {{'external': True, 'env': {{'COMPAT_RUN_ID': None}}}})]\n"
