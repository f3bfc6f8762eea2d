"""What a watched process reads: seen in processes of their own, because an audit hook stays for the life of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.machine.places import PACKAGE

START = """
import json, socket, sys
from finetune_compat.cell.script.inputs import Inputs
inputs = Inputs(())
inputs.begin()
sys.path.insert(0, "")
"""
END = """
print(json.dumps({"read": inputs.read, "hosts": inputs.hosts, "unanswered": inputs.unanswered}))
"""


def heard(folder: Path, script: str) -> dict[str, Any]:
    """What is noted while `script` runs in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", START + script + END],
        cwd=folder,
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.json").write_text("[]")
    (tmp_path / "helper.py").write_text("X = 1\n")
    return tmp_path


def own(found: dict[str, Any], folder: Path) -> list[str]:
    """The noted files below the folder."""
    return [Path(path).name for path in found["read"] if Path(path).is_relative_to(folder)]


def test_files_that_are_opened_and_modules_that_are_imported(folder: Path) -> None:
    assert own(heard(folder, "open('rows.json').read()\nimport helper\n"), folder) == ["helper.py", "rows.json"]


def test_a_file_is_seen_whichever_way_python_opens_it(folder: Path) -> None:
    script = "import os, pathlib\npathlib.Path('rows.json').read_bytes()\nos.close(os.open('helper.py', os.O_RDONLY))\n"
    assert own(heard(folder, script), folder) == ["helper.py", "rows.json"]


def test_the_environment_and_the_system_are_left_out(folder: Path) -> None:
    found = heard(folder, "import sqlite3\nopen('/etc/hosts').read()\nopen('/proc/cpuinfo').read()\n")
    outside = [path for path in found["read"] if not Path(path).is_relative_to(PACKAGE)]
    assert outside == []


def test_what_the_script_made_itself_is_no_input(folder: Path) -> None:
    assert own(heard(folder, "open('made', 'w').write('x')\nopen('made').read()\n"), folder) == []


@pytest.mark.parametrize(
    "script",
    [
        # filelock makes such a directory when it is imported, and shutil.rmtree opens it.
        "import tempfile\nwith tempfile.TemporaryDirectory() as made: open(f'{made}/probe', 'w').close()\n",
        "import os\nos.makedirs('out/best')\nos.system('echo x > out/best/model')\nopen('out/best/model').read()\n",
        "import os, pathlib\npathlib.Path('out').mkdir()\nos.rename('out', 'new')\nos.mkdir('out')\n",
    ],
    ids=["temporary directory", "file that a process of the script wrote", "directories alone"],
)
def test_what_is_in_a_directory_that_the_script_made_is_no_input(folder: Path, script: str) -> None:
    assert [path for path in heard(folder, script)["read"] if not Path(path).is_relative_to(PACKAGE)] == []


def test_a_directory_that_existed_is_not_made(folder: Path) -> None:
    """Python reports the attempt too."""
    (folder / "data").mkdir()
    (folder / "data" / "rows.json").write_text("[]")
    script = "import os\nos.makedirs('data', exist_ok=True)\nopen('data/rows.json').read()\n"
    assert own(heard(folder, script), folder) == ["rows.json"]


def test_a_script_that_changes_what_it_read_has_no_list(folder: Path) -> None:
    """Its next run reads something else."""
    assert heard(folder, "open('rows.json').read()\nopen('rows.json', 'a').write('x')\n")["read"] is None


def test_too_many_files_are_no_list(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}").write_text("")
    script = "import finetune_compat.cell.script.inputs as i\ni.MOST = 2\n[open(str(n)).close() for n in range(3)]\n"
    assert heard(folder, script)["read"] is None


@pytest.mark.parametrize(
    ("ask", "hosts"),
    [
        ("socket.create_connection(('192.0.2.1', 9), timeout=0.01)", ["192.0.2.1"]),
        ("socket.getaddrinfo('data.invalid', 443)", ["data.invalid"]),
        ("socket.create_connection(('127.0.0.1', 9), timeout=0.01)", []),
        ("socket.getaddrinfo('localhost', 9)", []),
    ],
)
def test_hosts_that_were_asked_for(folder: Path, ask: str, hosts: list[str]) -> None:
    """Also those that did not answer: on another day they might."""
    assert heard(folder, f"try:\n    {ask}\nexcept OSError:\n    pass\n")["hosts"] == hosts


NO_NETWORK = """
import socket as s
def refused(*_): raise s.gaierror(-2, "Name or service not known")
def address(*_): return [(2, 1, 6, "", ("192.0.2.1", 443))]
def ask(host):
    try: s.getaddrinfo(host, 443)
    except OSError: pass
"""
"""Stands in for the system's lookup, below the function that notes answers."""


@pytest.mark.parametrize(
    ("asked", "unanswered"),
    [
        ("s._socket.getaddrinfo = refused; ask('a.example'); ask('a.example')", ["a.example"]),
        ("s._socket.getaddrinfo = refused; ask('a.example'); s._socket.getaddrinfo = address; ask('a.example')", []),
        ("s._socket.getaddrinfo = address; ask('a.example'); s._socket.getaddrinfo = refused; ask('a.example')", []),
    ],
    ids=["never", "later", "once"],
)
def test_a_host_without_an_address_told_nothing(folder: Path, asked: str, unanswered: list[str]) -> None:
    """Where there is no network, its answer is the same at every run."""
    script = f"{NO_NETWORK}import sys\nsys.audit('socket.getaddrinfo', 'a.example', 443, 0, 0, 0)\n{asked}\n"
    found = heard(folder, script)
    assert (found["hosts"], found["unanswered"]) == (["a.example"], unanswered)


def test_a_host_that_was_connected_to_may_have_answered(folder: Path) -> None:
    """An address needs no lookup."""
    script = "try:\n    socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError:\n    pass\n"
    assert heard(folder, script)["unanswered"] == []


@pytest.mark.parametrize(
    ("module", "hosts"), [("huggingface_hub.utils._telemetry", []), ("train", ["data.invalid"])], ids=["library", "own"]
)
def test_telemetry_is_no_input(folder: Path, module: str, hosts: list[str]) -> None:
    """Its answer is ignored. TRL 1.9 sends it from a thread at each training."""
    worker = "def _telemetry_worker():\n    try: socket.getaddrinfo('data.invalid', 443)\n    except OSError: pass\n"
    script = f"""
import threading
inside = {{"__name__": {module!r}, "socket": socket}}
exec({worker!r}, inside)
thread = threading.Thread(target=inside["_telemetry_worker"])
thread.start(); thread.join()
"""
    assert heard(folder, script)["hosts"] == hosts


def test_a_file_descriptor_is_no_path(folder: Path) -> None:
    script = "import os\nopen(os.open('rows.json', os.O_RDONLY)).read()\n"
    assert own(heard(folder, script), folder) == ["rows.json"]
