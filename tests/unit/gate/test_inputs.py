"""Valid sides of a gate, and the exact message for every invalid one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.inputs import Row, Wanted, read_side
from finetune_compat.stacks.matrix import read_matrix

MATRIX = read_matrix()
CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), a requirements.txt, uv.lock or pylock.toml, or the path of an "
    "interpreter or a virtual environment."
)
KIND = "By its name it is a requirements file, a uv.lock (version 1) or a pylock.toml (PEP 751)."
AGAIN = "Make it again with the tool that wrote it, or name pins instead."
PLATFORM = "torch is the platform layer; its version is the matrix's, its build the machine's"

UV_LOCK = """version = 1
requires-python = ">=3.11"

[[package]]
name = "mine"
version = "0.1"
source = { editable = "." }

[[package]]
name = "trl"
version = "0.22.2"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "torch"
version = "2.8.0"
source = { registry = "https://download.pytorch.org/whl/cu126" }

[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["sys_platform == 'win32'"]

[[package]]
name = "numpy"
version = "2.2.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["sys_platform != 'win32'"]

[[package]]
name = "ours"
version = "3"
source = { git = "https://example.org/ours" }
"""
PYLOCK = """lock-version = "1.0"
created-by = "test"
requires-python = ">=3.11"

[[packages]]
name = "trl"
version = "0.22.2"
wheels = [{ name = "trl-0.22.2-py3-none-any.whl", path = "trl-0.22.2-py3-none-any.whl", hashes = { sha256 = "00" } }]

[[packages]]
name = "tokenizers"
version = "0.22.0"
marker = "sys_platform == 'linux'"
wheels = [{ name = "tokenizers-0.22.0-py3-none-any.whl", path = "t", hashes = { sha256 = "00" } }]

[[packages]]
name = "pywin32"
version = "300"
marker = "sys_platform == 'win32'"
wheels = [{ name = "pywin32-300-py3-none-any.whl", path = "pywin32-300-py3-none-any.whl", hashes = { sha256 = "00" } }]
"""


def wanted(*texts: str) -> Wanted:
    """A side that is no row of the matrix."""
    found = read_side(texts, "--to", MATRIX)
    assert isinstance(found, Wanted)
    return found


def refusal(*texts: str) -> str:
    """Return the message for an invalid side, which is always bad input."""
    with pytest.raises(CompatError) as raised:
        read_side(texts, "--to", MATRIX)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    return str(raised.value)


class TestRows:
    @pytest.mark.parametrize("text", ["trl0.22", "trl==0.22.2", " trl0.22 ", "TRL==0.22.2", "trl == 0.22.2 "])
    def test_a_name_and_the_pin_of_a_row_are_that_row(self, text: str) -> None:
        """The side has the committed lock, by either name."""
        assert read_side([text], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), None)

    def test_a_name_may_say_its_python(self) -> None:
        """Cells and reports have the same names."""
        assert read_side(["trl0.22-py312"], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), "3.12")

    @pytest.mark.parametrize(
        ("text", "pin"),
        [("trl[vllm]==0.22.2", "trl[vllm]==0.22.2"), ("trl [vllm, peft] == 0.22.2", "trl[peft,vllm]==0.22.2")],
    )
    def test_extras_of_a_row_are_reported_as_ignored(self, text: str, pin: str) -> None:
        """The committed lock is that of the package without extras."""
        told = (f"{pin}: the committed lock of trl0.22 has no extras",)
        assert read_side([text], "--to", MATRIX) == Row(MATRIX.stack("trl0.22"), None, told)

    def test_a_python_it_is_not_locked_for(self) -> None:
        """The message lists its Pythons."""
        assert refusal("trl0.24-py312") == (
            "matrices/stacks.toml: trl0.24 is not locked for Python 3.12\nIts row names 3.11.\nName trl0.24-py311."
        )


class TestPins:
    def test_another_release_brings_the_packages_of_its_day(self) -> None:
        """It is no row, and is named after the pin."""
        found = wanted("trl==0.22.1")
        assert (found.rule, found.name, list(map(str, found.requirements))) == (
            Rule.OF_ITS_DAY,
            "trl0.22.1",
            ["trl==0.22.1"],
        )

    @pytest.mark.parametrize(
        "texts",
        [
            ["peft==0.16.0 trl==0.22.2"],
            ["peft==0.16.0", "trl==0.22.2"],
            ["peft==0.16.0,trl==0.22.2"],
            ["peft == 0.16.0 , trl== 0.22.2"],
        ],
    )
    def test_several_in_one_value_or_in_several(self, texts: list[str]) -> None:
        """The name follows the matrix's order, not the typed order: one stack has one name."""
        assert wanted(*texts).name == "trl0.22.2-peft0.16.0"

    def test_extras_of_another_release_are_requested(self) -> None:
        """They make another stack than the package alone."""
        found = wanted("peft == 0.16.0 trl [vllm,peft] == 0.22.2")
        assert (found.name, list(map(str, found.requirements))) == (
            "trl-peft-vllm0.22.2-peft0.16.0",
            ["trl[peft,vllm]==0.22.2", "peft==0.16.0"],
        )

    def test_torch_is_reported_as_ignored(self) -> None:
        """Other pins are used."""
        assert wanted("trl==0.22.2", "torch==2.8.0").not_followed == (f"torch==2.8.0: {PLATFORM}",)

    @pytest.mark.parametrize(
        "text",
        ["trl>=0.22", "trl==0.22.*", "trl>=0.22,<0.23", "trl===0.22.2", "trl >= 0.22", "trl @ https://x.org/trl.whl"],
    )
    def test_what_names_no_single_release(self, text: str) -> None:
        """A range needs a resolver; a gate compares two stacks."""
        assert refusal(text) == (
            f"--to: {text!r} names no single release\n"
            "A gate runs two stacks, so each side must say which release it means.\n"
            "Pin it with == and all of the version, such as trl==0.22.2."
        )

    def test_twice(self) -> None:
        """The request is ambiguous."""
        assert refusal("trl==0.22.2", "trl==0.23.1") == "--to: trl is pinned twice\nLeave one of the pins out."

    def test_none_of_the_stack(self) -> None:
        """A web framework does not train, and torch belongs to the machine."""
        pins = "Pin one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        assert refusal("flask==3.0") == (
            f"--to: no pin of a package that the matrix resolves: flask==3.0\n"
            f"The gate compares the training stack.\n{pins}"
        )
        assert refusal("torch==2.8.0") == (
            "--to: no pin of a package that the matrix resolves: torch==2.8.0\n"
            "torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.\n"
            f"{pins}"
        )

    def test_nothing(self) -> None:
        """The message says what a side can be."""
        assert refusal(" ") == f"compat gate: --to is empty\n{CAN_BE}"

    def test_a_word(self) -> None:
        """The message has similar names."""
        assert refusal("trl0.2222") == (
            "--to: 'trl0.2222' is neither a stack, a pin, a file nor an interpreter\n"
            f"Stacks of matrices/stacks.toml that look like it: trl0.22, trl0.22.0, trl0.29.\n{CAN_BE}"
        )
        assert refusal("!!") == (
            f"--to: '!!' is neither a stack, a pin, a file nor an interpreter\n"
            f"No stack of matrices/stacks.toml looks like it.\n{CAN_BE}"
        )

    def test_a_stack_beside_a_pin(self) -> None:
        """Only pins can be combined."""
        assert refusal("trl0.22", "peft==0.16.0") == (
            "--to: 'trl0.22' does not go with other values\n"
            "A side is one stack, one file or one interpreter, or pins; only pins can be several.\n"
            "Leave one of them out."
        )


def written(folder: Path, name: str, text: str) -> str:
    """Write a file with this text and return its path."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


class TestRequirements:
    def test_what_it_pins_and_what_it_does_not(self, tmp_path: Path) -> None:
        """Continued lines, hashes, comments and includes are read; unsupported lines are named."""
        written(tmp_path, "base.txt", "transformers>=4.55,<4.57\n")
        path = written(
            tmp_path,
            "requirements.txt",
            "# ours\n-r base.txt\ntrl[peft]==0.22.2 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n"
            "tokenizers==0.22.0  # as locked\ntorch==2.8.0\nsympy==1.12\n--extra-index-url https://example.org\n"
            "-e .\n./wheels/ours.whl\nours @ https://example.org/ours.zip\npytest==8.0\n",
        )
        found = wanted(path)
        assert list(map(str, found.requirements)) == ["transformers<4.57,>=4.55", "trl[peft]==0.22.2"]
        assert (found.rule, found.name, found.constraints) == (Rule.FILE, "requirements", ("tokenizers==0.22.0",))
        assert found.not_followed == (
            "--extra-index-url https://example.org: an option of pip",
            "-e .: not from an index",
            "./wheels/ours.whl: not from an index",
            "ours @ https://example.org/ours.zip: not from an index",
            f"torch==2.8.0: {PLATFORM}",
            f"sympy==1.12: torch {MATRIX.torch} needs its own",
            "peft, bitsandbytes, accelerate, datasets: not given, but needed by the flows; the resolver chose them",
        )

    def test_one_that_is_called_a_lock(self, tmp_path: Path) -> None:
        """Some tools name their output so; except uv.lock it is a requirements file."""
        assert list(map(str, wanted(written(tmp_path, "requirements.lock", "trl==0.22.2\n")).requirements)) == [
            "trl==0.22.2"
        ]

    def test_markers_decide(self, tmp_path: Path) -> None:
        """They are evaluated as pip does on Linux."""
        lines = ("trl==0.22.2; sys_platform=='linux'", "trl==9.9; sys_platform=='win32'", "peft==1; extra=='x'\n")
        found = wanted(written(tmp_path, "requirements.txt", "\n".join(lines)))
        assert [item.name + str(item.specifier) for item in found.requirements] == ["trl==0.22.2"]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "trl==0.22.2\n???\n",
                "line 2 is not a valid requirement: Expected package name at the start of dependency specifier: '???'",
            ),
            (
                "trl==0.22.2; sys_platform ~= 'linux'\n",
                'a marker has an invalid comparison: sys_platform ~= "linux"',
            ),
            ("-r other.txt\n", "line 1 includes {folder}/other.txt, which does not exist"),
            ("trl\n-r\n", "line 2 does not include a local file: '-r'"),
            ("-c https://x.org/c.txt\n", "line 1 does not include a local file: '-c https://x.org/c.txt'"),
            (
                "-r binary.txt\n",
                (
                    "line 1 includes {folder}/binary.txt, which cannot be read: 'utf-8' codec can't decode byte "
                    "0xff in position 0: invalid start byte"
                ),
            ),
            (
                "\n-r wrong.txt\n",
                (
                    "line 2 includes {folder}/wrong.txt: line 1 is not a valid requirement: Expected package name "
                    "at the start of dependency specifier: '?'"
                ),
            ),
            ("-r requirements.txt\n", "line 1 includes {folder}/requirements.txt, which includes this file"),
        ],
    )
    def test_a_file_that_is_not_what_its_name_says(self, tmp_path: Path, text: str, problem: str) -> None:
        """The message has the line and the error."""
        (tmp_path / "binary.txt").write_bytes(b"\xff")
        written(tmp_path, "wrong.txt", "?\n")
        path = written(tmp_path, "requirements.txt", text)
        assert refusal(path) == f"{path}: {problem.format(folder=tmp_path)}\n{KIND}\n{AGAIN}"

    def test_without_a_package_of_the_stack(self, tmp_path: Path) -> None:
        """There is nothing to compare."""
        path = written(tmp_path, "requirements.txt", "flask==3.0\n")
        assert refusal(path) == (
            f"{path}: it names no package that the matrix resolves\nThe gate compares the training stack.\n"
            "Give one that holds one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        )

    def test_not_text(self, tmp_path: Path) -> None:
        """The message says so, without a traceback."""
        path = tmp_path / "requirements.txt"
        path.write_bytes(b"\xff\x80")
        assert refusal(str(path)) == (
            f"{path}: it cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte\n"
            f"{KIND}\n{AGAIN}"
        )


class TestLockFiles:
    def test_a_uv_lock(self, tmp_path: Path) -> None:
        """The entry for Linux of each package is used; the project itself is not a package."""
        found = wanted(written(tmp_path, "uv.lock", UV_LOCK))
        assert (list(map(str, found.requirements)), found.constraints) == (["trl==0.22.2"], ("numpy==2.2.0",))
        assert found.not_followed[:2] == ("ours: not from an index", f"torch==2.8.0: {PLATFORM}")
        assert found.python == "3.11"

    def test_a_pylock(self, tmp_path: Path) -> None:
        """A PEP 751 file gives the same."""
        found = wanted(written(tmp_path, "pylock.toml", PYLOCK))
        assert (list(map(str, found.requirements)), found.constraints) == (["trl==0.22.2"], ("tokenizers==0.22.0",))

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("uv.lock", "version = 2\n", "uv.lock has version 2, but only version 1 is supported"),
            ("uv.lock", "version = 1\n", "it has no list of packages"),
            ("uv.lock", "version = 1\npackage = ['trl']\n", "package[0] is not a valid locked package: 'trl'"),
            (
                "uv.lock",
                "version = 1\n[[package]]\nversion = '1'\n",
                "package[0] is not a valid locked package: it has no 'name'",
            ),
            (
                "uv.lock",
                "version = 1\n[[package]]\nname = 'trl'\nversion = 'x y'\nsource = { registry = '' }\n",
                (
                    "package[0] is not a valid locked package: "
                    "Expected semicolon (after name with no version specifier) or end"
                ),
            ),
            (
                "uv.lock",
                "version = 1\n[[package]]\nname = 'trl'\nresolution-markers = ['zzz']\n",
                "package[0] is not a valid locked package: Expected a marker variable or quoted string",
            ),
            (
                "pylock.toml",
                "lock-version = '1.0'\ncreated-by = 'x'\npackages = [{ name = 'trl', version = '1', marker = 'z' }]\n",
                "not a valid pylock.toml: Expected a marker variable or quoted string in 'packages[0].marker'",
            ),
            (
                "pylock.toml",
                "lock-version = '9.0'\ncreated-by = 'x'\npackages = []\n",
                "not a valid pylock.toml: pylock version 9.0 is not supported",
            ),
            ("uv.lock", "= 1", "not TOML: Invalid statement (at line 1, column 1)"),
            (
                "pylock.toml",
                "lock-version = '1.0'\n",
                "not a valid pylock.toml: Missing required value in 'created-by'",
            ),
        ],
    )
    def test_one_that_is_none(self, tmp_path: Path, name: str, text: str, problem: str) -> None:
        """The message has the error and the expected format."""
        path = written(tmp_path, name, text)
        assert refusal(path) == f"{path}: {problem}\n{KIND}\n{AGAIN}"


class TestInterpreters:
    def test_what_is_installed_in_one(self, tmp_path: Path) -> None:
        """The interpreter itself is queried; an environment's folder stands for its interpreter."""
        (tmp_path / "bin").mkdir()
        installed = [["trl", "0.22.2", False], ["peft", "0.17.1", True], ["torch", "2.8.0+cpu", False]]
        answer = json.dumps({"python": "3.11", "found": installed})
        python = tmp_path / "bin" / "python"
        python.write_text(f"#!/bin/sh\necho '{answer}'\n")
        python.chmod(0o755)
        found = wanted(str(tmp_path))
        assert (found.rule, found.python) == (Rule.LIVE, "3.11")
        assert list(map(str, found.requirements)) == ["trl==0.22.2", "peft==0.17.1"]
        assert found.not_followed[:2] == (
            "peft 0.17.1: not installed from an index; the gate uses version 0.17.1 of the index",
            f"torch==2.8.0+cpu: {PLATFORM}",
        )
        assert wanted(str(python)).requirements == found.requirements

    def test_a_real_one_without_the_stack(self) -> None:
        """This interpreter has no TRL."""
        assert refusal(sys.executable) == (
            f"{Path(sys.executable).parent.parent}: it names no package that the matrix resolves\n"
            "The gate compares the training stack.\n"
            "Give one that holds one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        )

    def test_a_program_is_not_run(self, tmp_path: Path) -> None:
        """Whatever file is named, only a Python interpreter is started."""
        program = tmp_path / "train"
        program.write_text("#!/bin/sh\ntouch ran\n")
        program.chmod(0o755)
        assert refusal(str(program)).startswith(
            f"--to {program}: this is neither a Python interpreter, a virtual environment nor a file of versions\n"
        )
        assert not (tmp_path / "ran").exists() and not Path("ran").exists()

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        """The message names the folder."""
        assert refusal(str(tmp_path)) == (
            f"--to {tmp_path}: this is neither a Python interpreter, a virtual environment nor a file of versions\n"
            f"The harness ran {tmp_path}/bin/python to list its packages, and that failed.\n{CAN_BE}"
        )

    def test_a_path_that_is_not_there(self) -> None:
        """A name with a slash or a file extension is a path."""
        for name in ("no/such/place", "missing.txt"):
            assert refusal(name) == (
                f"--to {name}: there is no such file or folder\n"
                f"Nothing is at {Path(name).absolute()}: the path is misspelt, or relative to another folder.\n{CAN_BE}"
            )


FOR_PYTHONS = """version = 1
requires-python = ">=3.11"

[[package]]
name = "trl"
version = "0.22.2"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version < '3.12'"]

[[package]]
name = "trl"
version = "0.23.1"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version >= '3.12.4' and implementation_name == 'cpython'"]
"""
"""A uv.lock with a release for each Python; the other files say the same."""

PYLOCK_FOR_PYTHONS = "\n".join(
    (
        'lock-version = "1.0"\ncreated-by = "test"\nrequires-python = ">=3.11"\ndefault-groups = ["train"]',
        *(
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\nmarker = "{marker}"\n'
            f'wheels = [{{ name = "{name}-{version}-py3-none-any.whl", path = "w", hashes = {{ sha256 = "00" }} }}]'
            for name, version, marker in (
                ("trl", "0.22.2", "python_version < '3.12'"),
                ("trl", "0.23.1", "python_version >= '3.12' and 'train' in dependency_groups"),
                ("peft", "0.17.0", "'dev' in dependency_groups or 'dev' in extras"),
            )
        ),
    )
)


class TestPython:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("uv.lock", FOR_PYTHONS),
            ("pylock.toml", PYLOCK_FOR_PYTHONS),
            ("requirements.txt", "trl==0.22.2; python_version<'3.12'\ntrl==0.23.1; python_version>='3.12'\n"),
        ],
    )
    @pytest.mark.parametrize(
        ("asked", "python", "pin"), [(None, "3.11", "0.22.2"), ("3.11", "3.11", "0.22.2"), ("3.12", "3.12", "0.23.1")]
    )
    def test_a_file_is_read_for_the_python_it_runs_on(
        self, tmp_path: Path, name: str, text: str, asked: str | None, python: str, pin: str
    ) -> None:
        """The Python that runs the gate does not matter."""
        found = read_side([written(tmp_path, name, text)], "--to", MATRIX, asked)
        assert isinstance(found, Wanted)
        assert found.python == python
        assert [str(item).partition(";")[0] for item in found.requirements] == [f"trl=={pin}"]

    def test_the_first_that_a_side_takes(self, tmp_path: Path) -> None:
        """It is the first of the matrix, unless one is requested."""
        newer = FOR_PYTHONS.replace(">=3.11", ">=3.12")
        found = wanted(written(tmp_path, "uv.lock", newer))
        assert (found.python, list(map(str, found.requirements))) == ("3.12", ["trl==0.23.1"])
        assert wanted("trl==0.22.1").python == MATRIX.pythons[0]

    @pytest.mark.parametrize(("takes", "asked"), [("<3.11", None), (">=3.12", "3.11")])
    def test_none_that_it_takes(self, tmp_path: Path, takes: str, asked: str | None) -> None:
        """The message lists the available ones."""
        path = written(tmp_path, "uv.lock", FOR_PYTHONS.replace(">=3.11", takes))
        with pytest.raises(CompatError) as raised:
            read_side([path], "--to", MATRIX, asked)
        assert str(raised.value) == (
            f"{path}: it needs Python {takes}\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these with --python, or give a file for one of them."
        )

    @pytest.mark.parametrize("text", ["trl==0.22.1", "requirements.txt"])
    def test_one_that_nothing_runs_on(self, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was requested, and no side needs it."""
        monkeypatch.chdir(tmp_path)
        written(tmp_path, "requirements.txt", "trl==0.22.2\n")
        with pytest.raises(CompatError) as raised:
            read_side([text], "--to", MATRIX, "3.9")
        assert str(raised.value) == (
            "--python: there are no locks for Python 3.9\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these, or leave --python out."
        )

    def test_an_interpreter_that_nothing_runs_on(self, tmp_path: Path) -> None:
        """This also holds for files, unless another Python is requested."""
        python = tmp_path / "python"
        python.write_text("""#!/bin/sh\necho '{"python": "3.10", "found": [["trl", "0.22.2", false]]}'\n""")
        python.chmod(0o755)
        assert refusal(str(python)) == (
            f"--to {python}: it needs Python 3.10\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these with --python, or give a file for one of them."
        )
        found = read_side([str(python)], "--to", MATRIX, "3.11")
        assert isinstance(found, Wanted) and found.python == "3.11"


def test_a_file_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "requirements.txt", "trl==0.22.2\n")
    assert wanted("requirements.txt").name == "requirements"
