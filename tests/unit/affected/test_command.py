"""`compat affected` as its users call it: texts, exit codes, and how little it needs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml
from finetune_compat import cli
from finetune_compat.affected import answer_json
from finetune_compat.contract.errors import ExitCode
from finetune_compat.machine.places import PACKAGE

PINS = "trl==0.22.2\ntransformers==4.56.0\npeft==0.17.1\nbitsandbytes==0.47.0\n"
CLEAN = "bitsandbytes==0.48.2\n"
ACCEPT = '[[ignore]]\nid = "{}"\nreason = "r"\nexpires = 2999-01-01\n'


def run(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["affected", *arguments])
    return int(caught.value.code or 0)


def written(tmp_path: Path, text: str) -> str:
    """Write a requirements file."""
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return str(path)


class TestExitCodes:
    def test_a_bug_is_1_and_none_is_0(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Traps are told in both, and do not count."""
        assert run(written(tmp_path, PINS)) == ExitCode.UNHEALTHY
        assert "trl#3926 learns nothing (hit)" in capsys.readouterr().out
        assert run(written(tmp_path, CLEAN)) == ExitCode.HEALTHY
        assert "trl#6700 learns nothing" in capsys.readouterr().out

    def test_a_file_without_a_package_of_the_ledger_is_3(self, tmp_path: Path) -> None:
        """Nothing was judged."""
        assert run(written(tmp_path, "numpy==2.0\n")) == ExitCode.COULD_NOT_TELL

    def test_accepted_bugs_do_not_count(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """They stay visible, with the reason."""
        path = written(tmp_path, PINS)
        run(path, "--json")
        bugs = [issue["id"] for issue in json.loads(capsys.readouterr().out)["issues"] if issue["counts"]]
        (tmp_path / "finetune-compat.toml").write_text("".join(map(ACCEPT.format, bugs)))
        assert run(path) == ExitCode.HEALTHY
        assert "r (until 2999-01-01)" in capsys.readouterr().out

    @pytest.mark.parametrize("text", ["trl==\n", "\0", "-r nowhere.txt\n"])
    def test_a_file_that_is_not_valid_is_4(self, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        """With one message on standard error."""
        assert run(written(tmp_path, text)) == ExitCode.BAD_INPUT
        out, err = capsys.readouterr()
        assert out == ""
        assert "requirements.txt" in err

    def test_two_forms_at_once_are_4(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Standard output has one form."""
        assert run("--json", "--sarif") == ExitCode.BAD_INPUT
        assert "--json and --sarif exclude each other" in capsys.readouterr().err


class TestJson:
    @pytest.mark.parametrize("text", [PINS, CLEAN, "numpy==2\n", "trl>=0.19\n", "trl==99\n"])
    def test_every_answer_is_valid_against_the_published_schema(
        self, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing but the object is on standard output."""
        run(written(tmp_path, text), "--json")
        jsonschema.validate(json.loads(capsys.readouterr().out), json.loads(answer_json.schema("affected")))

    def test_the_schema_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It is a valid schema, and allows no other field."""
        assert run("--schema") == ExitCode.HEALTHY
        schema = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False

    def test_every_bug_has_a_proof_that_can_be_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The command exists in this version, and names a stack, a flow and a variant."""
        run(written(tmp_path, PINS), "--json")
        bugs = [issue for issue in json.loads(capsys.readouterr().out)["issues"] if issue["counts"]]
        assert bugs
        for issue in bugs:
            assert issue["evidence"], issue["id"]
            assert all(proof["command"].startswith(("compat run ", "compat windows ")) for proof in issue["evidence"])


def test_neither_torch_nor_the_network_is_needed(tmp_path: Path) -> None:
    """In a process that has none of them."""
    path = written(tmp_path, PINS)
    code = (
        "import sys, socket\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = refuse\n"
        "for name in ('torch', 'transformers', 'trl', 'libcst', 'yaml', 'rich.table'): sys.modules[name] = None\n"
        "from finetune_compat import cli\n"
        f"cli.main(['affected', {path!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.UNHEALTHY and "trl#3926" in done.stdout, done.stderr


LIMIT_S = 0.5
"""Processor seconds of one answer for a lock of 400 packages."""


def test_a_lock_of_400_packages_is_answered_in_half_a_second(tmp_path: Path) -> None:
    """Processor time of a whole process, the best of five: others use this machine too."""
    (tmp_path / "uv.lock").write_text(uv_lock(400))
    # As for a user, whose Python keeps the compiled modules of the first call.
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path / "compiled")
    best = min(_seconds(tmp_path / "uv.lock", compiled) for _ in range(6))
    assert best < LIMIT_S


def uv_lock(packages: int) -> str:
    """A lock file as uv writes it, with eight wheels for every package."""
    names = [*(f"package-{number}" for number in range(packages - 4)), *PINS.replace("==", " ").split("\n")[:-1]]
    return 'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n' + "".join(map(_locked, names))


def _locked(name: str) -> str:
    name, _, version = name.partition(" ")
    version = version or "1.0"
    wheel = (
        f'    {{ url = "https://files.pythonhosted.org/packages/{"ab" * 29}/{name}-{version}-cp311-cp311-'
        f'manylinux_2_17_x86_64.whl", hash = "sha256:{"0" * 64}", size = 100, upload-time = "2025-01-01T00:00:00Z"}},\n'
    )
    return (
        f'\n[[package]]\nname = "{name}"\nversion = "{version}"\n'
        f'source = {{ registry = "https://pypi.org/simple" }}\nwheels = [\n{wheel * 8}]\n'
    )


def _seconds(path: Path, env: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "finetune_compat", "affected", path]
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    assert done.returncode == ExitCode.UNHEALTHY
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_hooks_call_commands_that_exist() -> None:
    """Without options that this version does not have."""
    root = typer.main.get_command(cli.app)
    hooks = yaml.safe_load((PACKAGE.parents[1] / ".pre-commit-hooks.yaml").read_text())
    entries = {hook["id"]: hook["entry"].split() for hook in hooks}
    for command in ("affected", "audit"):
        assert entries[f"compat-{command}"] == ["compat", command, "."]
        assert command in root.commands  # type: ignore[attr-defined]
