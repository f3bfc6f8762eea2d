"""`compat watch` on the host: which command runs, where, and how its record is reported. This interpreter stands in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted, RecordsError, StackFailed
from finetune_compat.contract.records import Failure, Stage
from finetune_compat.contract.script import Pipeline
from finetune_compat.machine.places import PACKAGE
from finetune_compat.watch import host
from finetune_compat.watch import page as pages
from finetune_compat.watch.host import (
    Background,
    ChangesOutside,
    Interpreter,
    command_of,
    exit_code,
    is_three_calls,
    own_interpreter,
    run_pipeline,
)
from finetune_compat.watch.page import verdicts_on
from pipelines import frozen, pipeline, run, without_training

ROOT = PACKAGE.parents[1]

LEDGER = load_ledger()


NO_LAUNCHER = """\
launch: it is neither a script, a notebook nor a command of that environment
There is no /env/bin/launch.
Give train.py, train.ipynb, or a launcher: compat watch -- accelerate launch train.py."""

HERE = Interpreter("own", Path(sys.executable))


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestTheCommand:
    def test_a_script_is_run_as_it_always_is(self) -> None:
        Path("train.py").write_text("print()")
        assert command_of(Path("/env/bin/python"), ["train.py", "--a"]) == (
            "train",
            ["/env/bin/python", "train.py", "--a"],
        )

    def test_a_notebook_is_run_by_a_module_of_ours(self) -> None:
        Path("train.ipynb").write_text('{"cells": []}')
        _, command = command_of(Path("/env/bin/python"), ["train.ipynb"])
        assert command == ["/env/bin/python", "-m", "finetune_compat.cell.script.notebook", "train.ipynb"]

    def test_three_functions_and_nothing_else_are_a_flow(self) -> None:
        Path("flow.py").write_text(
            '"""Mine."""\nimport os\ndef build(): ...\ndef train(m, s): ...\ndef evaluate(m): ...\n'
        )
        _, command = command_of(Path("/env/bin/python"), ["flow.py"])
        assert command == ["/env/bin/python", "-m", "finetune_compat.cell.script.calls", "flow.py"]
        with Path("flow.py").open("a") as file:
            file.write("train(build(), 3)\n")
        assert not is_three_calls(Path("flow.py"))

    def test_a_launcher_of_the_environment_is_run_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "accelerate").touch()
        name, command = command_of(tmp_path / "python", ["accelerate", "launch", "mine.py", "--a"])
        assert (name, command) == ("mine", [str(tmp_path / "accelerate"), "launch", "mine.py", "--a"])

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                "absent.py",
                (
                    "absent.py: there is no such file\nNothing is at HERE/absent.py.\n"
                    "Give an existing script (.py) or notebook (.ipynb)."
                ),
            ),
            (
                "launch",
                NO_LAUNCHER,
            ),
        ],
    )
    def test_what_is_not_there_is_bad_input(self, given: str, message: str) -> None:
        with pytest.raises(CompatError) as raised:
            command_of(Path("/env/bin/python"), [given])
        assert (str(raised.value), raised.value.exit_code) == (
            message.replace("HERE", str(Path.cwd())),
            ExitCode.BAD_INPUT,
        )

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("import trl", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
            ('{"worksheets": []}', "it has no 'cells'"),
            ("[]", "it is not a JSON object"),
            ('{"cells": [{}]}', "it has no 'cell_type'"),
            ('{"cells": [{"cell_type": "code"}]}', "it has no 'source'"),
            ('{"cells": [{"cell_type": "code", "source": 5}]}', "the source of a cell is not text"),
            ('{"cells": [{"cell_type": "code", "source": ["x", 5]}]}', "the source of a cell is not text"),
            ('{"cells": [{"cell_type": ["code"], "source": ""}]}', "the source of a cell is not text"),
            ("[" * 200_000, "is nested more than 100 levels deep"),
        ],
    )
    def test_an_invalid_notebook_is_bad_input(self, tmp_path: Path, text: str, problem: str) -> None:
        """It is refused before an environment is made, and without a traceback."""
        notebook = tmp_path / "train.ipynb"
        notebook.write_text(text)
        with pytest.raises(CompatError) as raised:
            command_of(Path("/env/bin/python"), [str(notebook)])
        assert str(raised.value) == (
            f"{notebook}: it is not a valid notebook: {problem}\n"
            "A notebook is a JSON file with code cells, in version 4 of the notebook format.\n"
            "Open it in Jupyter and save it again, or give a script (.py)."
        )


class TestTheInterpreter:
    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(CompatError) as raised:
            own_interpreter("/nowhere/python")
        assert str(raised.value) == (
            "--python /nowhere/python: there is no such interpreter\n"
            "It is neither a file that can be run nor on the PATH.\n"
            "Give the python of the environment your script runs in, such as .venv/bin/python."
        )

    @pytest.mark.parametrize(
        ("says", "what"),
        [
            ("3 11 torch transformers", "it has no torch and no transformers"),
            ("3 11 torch", "it has no torch"),
            ("3 9", "it is Python 3.9"),
        ],
    )
    def test_one_a_script_cannot_be_watched_in(self, tmp_path: Path, says: str, what: str) -> None:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\necho {says}\n")
        python.chmod(0o755)
        with pytest.raises(CompatError) as raised:
            own_interpreter(str(python))
        assert str(raised.value) == (
            f"{python}: {what}\n"
            "The script runs in this environment, which needs Python 3.11 or later, torch and Transformers.\n"
            "Activate that environment, name it (--python .venv/bin/python), or choose a stack (--stack trl0.22)."
        )

    def test_the_active_environment_is_the_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin").mkdir()
        python = tmp_path / "bin" / "python"
        python.write_text("#!/bin/sh\necho 3 12\n")
        python.chmod(0o755)
        monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
        assert own_interpreter(None) == Interpreter("own", python)

    def test_something_else_than_python(self) -> None:
        with pytest.raises(CompatError) as raised:
            own_interpreter("/bin/true")
        assert str(raised.value) == (
            "--python /bin/true: it is not a working Python interpreter\n"
            "The harness ran it to read its version and to find torch and Transformers. That run failed.\n"
            "Give the python of the environment your script runs in, such as .venv/bin/python."
        )


class TestTheRun:
    def test_the_record_of_the_script_comes_back_with_how_it_ended(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The script writes the record of a watched process; its own output does not mix with the command's."""
        record = pipeline(frozen(), status=None).to_json()
        Path("train.py").write_text(
            "import json, os, pathlib, sys\n"
            'request = json.loads(pathlib.Path(os.environ.pop("COMPAT_WATCH")).read_text())\n'
            'assert (request["flow"], request["steps"]) == ("train", 5)\n'
            f'pathlib.Path(request["folder"], "1.json").write_text({record!r})\n'
            'print("mine")\nsys.exit(7)\n'
        )
        seen = run_pipeline(["train.py"], HERE, 5)
        assert seen == pipeline(frozen(), status=7)
        assert exit_code(verdicts_on(seen, LEDGER)) is ExitCode.UNHEALTHY
        assert capfd.readouterr().out == ""

    def test_the_script_has_its_secrets_and_the_record_does_not(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """This holds for text and JSON, and for secrets of arguments and environment."""
        monkeypatch.setenv("HF_TOKEN", "Zq7xW2vKp9env")
        error = Failure("ValueError", "Zq7xW2vKp9arg and Zq7xW2vKp9env are wrong", Stage.TRAINING, ())
        record = pipeline(run(), arguments=("--hub_token", "Zq7xW2vKp9arg"), error=error, status=None).to_json()
        Path("train.py").write_text(
            "import json, os, pathlib, sys\n"
            'request = json.loads(pathlib.Path(os.environ.pop("COMPAT_WATCH")).read_text())\n'
            'assert (sys.argv[1:], os.environ["HF_TOKEN"]) == (["--hub_token", "Zq7xW2vKp9arg"], "Zq7xW2vKp9env")\n'
            f'pathlib.Path(request["folder"], "1.json").write_text({record!r})\n'
        )
        seen = run_pipeline(["train.py", "--hub_token", "Zq7xW2vKp9arg"], HERE)
        assert (seen.arguments, seen.status) == (("--hub_token", "REDACTED"), 0)
        verdicts = verdicts_on(seen, load_ledger())
        told = f"{json.dumps(pages.as_json(seen, verdicts))}{pages.page(seen, verdicts, load_ledger())}"
        assert "REDACTED and REDACTED are wrong" in told and "Zq7xW2vKp9" not in f"{told}{capfd.readouterr()}"

    def test_files_saved_under_a_gate_are_removed_however_the_script_ends(self) -> None:
        """The second side finds the same files as the first, also if the first was killed."""
        record = pipeline(run(), status=None).to_json()
        Path("train.py").write_text(
            "import os, pathlib\nfrom finetune_compat.cell.script import process\n"
            'if os.path.isdir("final"): os._exit(4)\n'
            "def as_libraries_do(owner, place):\n"
            ' os.makedirs(place, exist_ok=True)\n pathlib.Path(place, "model").touch()\n'
            'process.current.kept.saving(as_libraries_do)(None, "final")\nassert os.path.isfile("final/model")\n'
            f'pathlib.Path(process.current.request.folder, "1.json").write_text({record!r})\n'
            "os.kill(os.getpid(), 9)\n"
        )
        assert [run_pipeline(["train.py"], HERE, throw_away=True).status for _ in range(2)] == [-9, -9]
        assert [path.name for path in Path().iterdir()] == ["train.py"]
        assert run_pipeline(["train.py"], HERE).status == -9
        with pytest.raises(StackFailed, match="it ended with status 4"):
            run_pipeline(["train.py"], HERE)

    def test_under_a_gate_the_current_directory_is_a_copy(self, tmp_path: Path) -> None:
        """What the script reads there, above it and next to itself is found; what it writes there is gone."""
        for name in ("work/rows", "beside/rows", "mine/settings", "mine/helper.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("here = __file__" if name.endswith("py") else name)
        record = pipeline(run(), status=None).to_json()
        Path("mine/train.py").write_text(
            "import helper, json, os, pathlib, tempfile\nfrom finetune_compat.cell.script import process\n"
            "here, request = pathlib.Path(__file__).parent, process.current.request\n"
            "texts = [pathlib.Path(place).read_text() for place in ('rows', '../beside/rows', here / 'settings')]\n"
            "assert texts == ['work/rows', 'beside/rows', 'mine/settings'], texts\n"
            "for place in ('rows', 'new', 'deep/new', here / 'settings', here / 'new'):\n"
            " pathlib.Path(place).parent.mkdir(exist_ok=True); pathlib.Path(place).write_text('mine')\n"
            "handle, kept = tempfile.mkstemp()\n"
            f"record = json.loads({record!r})\n"
            "record['read'] = [str(pathlib.Path('rows').absolute()), helper.here, kept]\n"
            "record['unseen'] = [f'not seen: {helper.here}']\n"
            "pathlib.Path(request.folder, '1.json').write_text(json.dumps(record))\n"
        )
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        os.chdir("work")
        for script in ("../mine/train.py", str(tmp_path / "mine/train.py")):
            seen = run_pipeline([script], HERE, throw_away=True)
            assert (seen.status, seen.read) == (0, (str(tmp_path / "mine/helper.py"), "rows"))
            assert seen.unseen == (f"not seen: {tmp_path}/mine/helper.py",)
            assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("place", ["absent/new", "full", "../elsewhere/new"])
    def test_beside_others_a_script_changes_nothing_outside_its_copy(self, place: str, tmp_path: Path) -> None:
        """It ends before, also where the file is new; alone it runs to its end. Its own directory is no matter."""
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "absent").mkdir()
        (tmp_path / "full").write_text("mine")
        outside = place if place.startswith("..") else str(tmp_path / place)
        Path("work").mkdir()
        os.chdir("work")
        record = pipeline(run(), status=None).to_json()
        Path("train.py").write_text(
            "import pathlib, tempfile\nfrom finetune_compat.cell.script import process\n"
            "pathlib.Path('out').mkdir(); pathlib.Path('out/model').touch(); tempfile.mkdtemp()\n"
            f"pathlib.Path(process.current.request.folder, '1.json').write_text({record!r})\n"
            f"print('begun', flush=True)\npathlib.Path({outside!r}).write_text('changed')\nprint('ended')\n"
        )
        log = tmp_path / "logs" / "one.txt"
        with pytest.raises(ChangesOutside) as raised:
            run_pipeline(["train.py"], HERE, throw_away=True, background=Background(log, signals=[]))
        whole = (Path.cwd() / outside).resolve()
        assert (raised.value.place, log.read_text()) == (str(whole), "begun\n")
        assert whole.exists() is (place == "full") and (tmp_path / "full").read_text() == "mine"
        assert run_pipeline(["train.py"], HERE, throw_away=True, background=Background(log)).status == 0
        assert log.read_text() == "begun\nbegun\nended\n"
        assert (tmp_path / "full").read_text() == "mine"

    def test_a_signal_of_the_main_thread_ends_a_script_in_another(self, tmp_path: Path) -> None:
        """And one that has not begun does not begin. Secrets are not in the file of its output."""
        Path("train.py").write_text("import sys, time\nprint(sys.argv[2], flush=True)\ntime.sleep(600)\n")
        log, signals = tmp_path / "log", list[int]()
        given, background = ["train.py", "--hub_token", "Zq7xW2vKp9arg"], Background(log, signals)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run_pipeline, given, HERE, throw_away=True, background=background)
            while not log.exists() or not log.read_text():
                time.sleep(0.05)
            signals.append(signal.SIGINT)
            with pytest.raises(Interrupted):
                running.result(timeout=30)
        with pytest.raises(Interrupted):
            run_pipeline(given, HERE, throw_away=True, background=Background(tmp_path / "other", signals))
        assert not (tmp_path / "other").exists()

    def test_the_environment_is_the_users(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The user's PYTHONPATH comes after one directory of the harness; nothing else of the checkout is on it."""
        monkeypatch.setenv("PYTHONPATH", "/mine")
        assert host.environ_of(Path("/r"))["PYTHONPATH"] == f"{PACKAGE}/cell/site:/mine"
        # What the environment lacks comes last.
        assert host.environ_of(Path("/r"), Path("/with"))["PYTHONPATH"] == f"{PACKAGE}/cell/site:/mine:/with"

    def test_a_script_without_any_library_is_reported_as_such(self) -> None:
        """The watch is loaded for real, records nothing and writes nothing; the script does not notice."""
        Path("train.py").write_text(
            "import sys\nfrom pathlib import Path\n"
            'assert not [place for place in sys.path if "site/" in place]\n'
            'Path("told").write_text(__name__ + " " + " ".join(sys.argv))\nsys.exit(3)\n'
        )
        with pytest.raises(StackFailed) as raised:
            run_pipeline(["train.py", "-x"], HERE)
        assert str(raised.value).startswith("train.py: it ended with status 3, and no library of the stack was seen\n")
        assert raised.value.exit_code is ExitCode.COULD_NOT_TELL
        assert Path("told").read_text() == "__main__ train.py -x"

    def test_of_several_processes_the_one_that_saw_most(self, tmp_path: Path) -> None:
        (tmp_path / "1.json").write_text(pipeline(status=None).to_json())
        (tmp_path / "2.json").write_text(pipeline(run(), status=None).to_json())
        (tmp_path / "3.json").write_text(pipeline(run(), run(), status=None).to_json())
        seen = host._read(tmp_path, 0, ["x.py"])
        assert len(seen.runs) == 2
        assert seen.unseen == ("1 other processes of the script trained or loaded models too",)

    def test_a_machine_that_answered_one_process_has_answered(self, tmp_path: Path) -> None:
        """Only what no process learned anything from is unanswered."""
        both = ("a.example", "b.example")
        (tmp_path / "1.json").write_text(pipeline(run(), hosts=both, unanswered=both).to_json())
        (tmp_path / "2.json").write_text(pipeline(hosts=("b.example",), unanswered=()).to_json())
        seen = host._read(tmp_path, 0, ["x.py"])
        assert (seen.hosts, seen.unanswered) == (both, ("a.example",))

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"schema": 2}', "schema 2, this harness reads 1"),
            ("[]", "schema None, this harness reads 1"),
            ('{"schema": 1}', "script: Field required"),
            ("not json", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ],
    )
    def test_a_record_that_cannot_be_read_is_an_error(self, tmp_path: Path, text: str, problem: str) -> None:
        (tmp_path / "1.json").write_text(text)
        with pytest.raises(RecordsError) as raised:
            host._read(tmp_path, 0, ["x.py"])
        assert str(raised.value) == (
            f"1.json: not a record of a watched process: {problem}\n"
            "Another program wrote or changed this file.\nRun the script again."
        )

    def test_one_step_is_too_few(self) -> None:
        with pytest.raises(CompatError) as raised:
            run_pipeline(["train.py"], HERE, 1)
        assert str(raised.value) == (
            "compat watch: --steps 1\nBefore step 2 half of a LoRA adapter has no gradient to receive.\n"
            "Ask for 2 steps or more."
        )


STARTS_OTHERS = """
import os, pathlib, subprocess, sys, time
from finetune_compat.cell.script import process

def save(owner, place):
    os.makedirs(place, exist_ok=True)
    pathlib.Path(place, "model").touch()

for place in ("full", "deep/new"):
    process.current.kept.saving(save)(None, place)
pathlib.Path("full/mine").write_text("a few steps of training")
sleeps = "print(0, flush=True); import time; time.sleep(600)"
refuses = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleeps
alone = {"start_new_session": True}
children = [
    subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, **options)
    for code, options in ((sleeps, {}), (refuses, alone), (sleeps, {"env": {}}))
]
for child in children:
    child.stdout.readline()
starts = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=2).pid)"
daemon = subprocess.run([sys.executable, "-c", starts, sleeps], stdout=subprocess.PIPE, **alone).stdout
pids = [os.getpid(), *(child.pid for child in children), int(daemon)]
pathlib.Path("pids.part").write_text(" ".join(map(str, pids)))
os.rename("pids.part", "pids")
time.sleep(600)
"""
"""A script that saves, overwrites a file, and starts processes in other process groups. One has lost its parent."""

RUNS_IT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from finetune_compat import cli; from finetune_compat.watch import host as watch
from finetune_compat.gate import command
here = watch.Interpreter("own", Path(sys.executable))
watch.own_interpreter = lambda _: here
command.gate_command = lambda asked: watch.run_pipeline([asked.flow], here, throw_away=True)
watching = ["watch", "train.py"]
cli.main(watching if sys.argv[2] == "watch" else ["gate", "--from", "a", "--to", "b", "--flow", "train.py"])
"""
"""`compat watch` and `compat gate --flow`, without a stack."""


@contextlib.contextmanager
def watching(command: str, signals: Mapping[signal.Signals, Any]) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Run the command while its script sleeps; yield the pids of the script and of its child processes."""
    Path("full").mkdir()
    Path("full", "mine").write_text("weeks of training")
    Path("temporary").mkdir()
    Path("train.py").write_text(STARTS_OTHERS)
    before = {number: signal.signal(number, handler) for number, handler in signals.items()}
    words = [sys.executable, "-c", RUNS_IT, str(ROOT), command]
    environ = {**os.environ, "TMPDIR": str(Path("temporary").resolve())}
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as process:
        for number, handler in before.items():
            signal.signal(number, handler)
        pids: list[int] = []
        try:
            while (
                told := next(Path().glob("pids" if command == "watch" else f"temporary/*/own{Path.cwd()}/pids"), None)
            ) is None:
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            pids += map(int, told.read_text().split())
            here = told.parent  # a gate runs a script in a copy of the current directory
            assert (here / "full/model").is_symlink() and (here / "full/model").exists()
            assert (here / "full/mine").read_text() == "a few steps of training"
            assert (here / "deep/new/model").is_symlink() is (command == "gate")
            assert Path("full/mine").read_text() == (
                "weeks of training" if command == "gate" else "a few steps of training"
            )
            yield process, pids
        finally:
            process.kill()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Return whether a process has ended. A zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def with_default_handlers(*numbers: signal.Signals) -> dict[signal.Signals, Any]:
    """Handlers with which a started command reacts to signals, also if the tests run in the background."""
    return dict.fromkeys(numbers, lambda *_: None)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
class TestASignal:
    """A terminated watch leaves no process, no link, no folder, and no file of the user that the script overwrote."""

    @pytest.mark.parametrize(
        ("command", "number", "code"),
        [
            ("watch", signal.SIGTERM, 143),
            ("watch", signal.SIGINT, 130),
            ("watch", signal.SIGHUP, 129),
            ("gate", signal.SIGTERM, 143),
        ],
    )
    def test_ends_the_script_and_all_that_it_started(self, command: str, number: signal.Signals, code: int) -> None:
        with watching(command, with_default_handlers(number)) as (process, pids):
            process.send_signal(number)
            process.send_signal(number)  # an impatient user sends it twice, and the cleanup still completes
            _, error = process.communicate(timeout=60)
            assert [pid for pid in pids if not gone(pid)] == []
        assert (process.returncode, error.splitlines()[-1]) == (code, f"interrupted by {number.name}")
        assert [path.name for path in Path("full").iterdir()] == ["mine"]
        assert Path("full/mine").read_text() == "weeks of training"
        assert Path("deep").exists() is (command == "watch")  # a watch does not redirect what the script saves
        assert list(Path("temporary").iterdir()) == []

    def test_that_the_command_was_started_to_ignore_is_ignored(self) -> None:
        """nohup does this."""
        ignoring = {**with_default_handlers(signal.SIGTERM), signal.SIGHUP: signal.SIG_IGN}
        with watching("watch", ignoring) as (process, pids):
            process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            assert not gone(pids[0])
            process.terminate()
            assert process.wait(60) == 143

    def test_that_nobody_can_catch_ends_the_script(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel signals the script; the script's children continue. The next watch removes folders and links."""
        with watching("watch", {}) as (process, pids):
            process.kill()
            process.wait()
            for _ in range(600):
                if gone(pids[0]):
                    break
                time.sleep(0.1)
            assert gone(pids[0])
        left = Path("temporary").resolve()
        assert Path("full/model").is_symlink() and len(list(left.iterdir())) == 2
        monkeypatch.setattr(tempfile, "tempdir", str(left))
        with host.temporary_folder() as own:
            assert [path.name for path in Path("full").iterdir()] == ["mine"]
            assert Path("full/mine").read_text() == "weeks of training"
            assert [str(path) for path in left.iterdir()] == [own]
            with host.temporary_folder() as other:
                assert Path(own).is_dir() and Path(other).is_dir()  # a watch that lives keeps its folder
        assert list(left.iterdir()) == []


def test_a_script_that_takes_too_long_is_ended() -> None:
    """Nothing is known of it then, and all of its processes have ended."""
    Path("train.py").write_text("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)")
    with pytest.raises(StackFailed) as raised:
        run_pipeline(["train.py"], HERE, limit_s=5.0)
    assert str(raised.value) == (
        f"{sys.executable} train.py: it took longer than 5 s, and was ended\n"
        "It waits for something, or does much before its first training: each training ends after a few steps.\n"
        "Give it more time (--limit SECONDS), or fewer data."
    )
    assert raised.value.exit_code is ExitCode.COULD_NOT_TELL
    assert gone(int(Path("pid").read_text()))


def test_the_bytecode_of_a_script_is_its_users_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's shell says about bytecode is handed on."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert host.environ_of(Path("request"))["PYTHONDONTWRITEBYTECODE"] == "1"


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (pipeline(run()), ExitCode.HEALTHY),
        (pipeline(run(), frozen()), ExitCode.UNHEALTHY),
        (pipeline(run(), without_training(run())), ExitCode.COULD_NOT_TELL),
        (pipeline(run(), status=7), ExitCode.COULD_NOT_TELL),
        (pipeline(run(), status=-9), ExitCode.COULD_NOT_TELL),
        (pipeline(frozen(), status=7), ExitCode.UNHEALTHY),
        (pipeline(), ExitCode.COULD_NOT_TELL),
    ],
)
def test_the_worst_trainer_decides(seen: Pipeline, code: ExitCode) -> None:
    """A fault is certain; an unknown part may hide one."""
    assert exit_code(verdicts_on(seen, LEDGER)) is code
