"""Valid sides of a gate, and the exact message for every invalid one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.inputs import Move, Row, Upgrade, Wanted, read_side, read_target, read_upgrade
from finetune_compat.stacks.matrix import read_matrix
from project_builders import uv_lock

MATRIX = read_matrix()
CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements file, or the "
    "path of an interpreter or a virtual environment."
)
PLATFORM = (
    "torch is the platform layer; its version is the matrix's, its build the machine's; a fault of another torch or of "
    "CUDA is not seen"
)
ANY = "a fault that needs it is not seen, and a script that imports it fails on both sides"

UV_LOCK = uv_lock(
    'mine 0.1 editable = "."',
    "trl 0.22.2",
    'torch 2.8.0 registry = "https://download.pytorch.org/whl/cu126"',
    "numpy 1.26.4\nresolution-markers = [\"sys_platform == 'win32'\"]",
    "numpy 2.2.0\nresolution-markers = [\"sys_platform != 'win32'\"]",
    'ours 3 git = "https://example.org/ours"',
)
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
        ("text", "moves"),
        [
            ("trl>=0.22", (Move("trl", ">=0.22"),)),
            ("trl==0.22.*", (Move("trl", "==0.22.*"),)),
            ("trl >= 0.22, < 0.23", (Move("trl", "<0.23,>=0.22"),)),
            ("trl==latest", (Move("trl"),)),
            ("trl @ latest", (Move("trl"),)),
            ("peft==0.17.1 trl==latest", (Move("trl"), Move("peft", "==0.17.1"))),
            ("latest", ()),
            (
                "trl @ git+https://github.com/huggingface/trl@main",
                (Move("trl", "", (), "git+https://github.com/huggingface/trl@main"),),
            ),
        ],
    )
    def test_what_the_index_or_a_build_must_tell(self, text: str, moves: tuple[Move, ...]) -> None:
        """The newest release of a range, the newest of all, or what is at an address."""
        assert read_side([text], "--to", MATRIX) == Upgrade(moves, "3.11", in_project=False)

    @pytest.mark.parametrize("text", ["trl===0.22.2", "trl==0.22.2; python_version > '3'"])
    def test_what_names_no_release(self, text: str) -> None:
        """Markers and === are for files."""
        assert refusal(text) == (
            f"--to: {text!r} names no release\n"
            "A side has one release of each package: markers and === are for files.\n"
            "Pin it with ==, such as trl==0.22.2."
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
            "-e .\n./wheels/ours-1-py3-none-any.whl\ntheirs @ https://example.org/theirs.zip\npytest==8.0\n",
        )
        found = wanted(path)
        assert list(map(str, found.requirements)) == ["transformers<4.57,>=4.55", "trl[peft]==0.22.2"]
        assert (found.rule, found.name, found.constraints) == (Rule.FILE, "requirements", ())
        assert list(map(str, found.others)) == ["tokenizers==0.22.0"]
        nameless = "a folder, an archive or a repository that states no name"
        assert found.not_followed == (
            "--extra-index-url https://example.org: another index; packages come from the default index",
            f".: {nameless}",
            f"torch==2.8.0: {PLATFORM}",
            f"sympy==1.12: torch {MATRIX.torch} needs its own",
            f"ours @ ./wheels/ours-1-py3-none-any.whl: left out, it is from a folder or file, not from an index; {ANY}",
            f"theirs @ https://example.org/theirs.zip: left out, it is from a URL, not from an index; {ANY}",
            "peft, bitsandbytes, accelerate, datasets: not given, but needed by the flows; the resolver chose them",
        )

    def test_constraints_only_limit(self, tmp_path: Path) -> None:
        """A package that is only in a file of constraints is not installed."""
        written(tmp_path, "limits.txt", "numpy<2\npeft<0.18\npytest<9\n")
        found = wanted(written(tmp_path, "requirements.txt", "trl==0.22.2\n-c limits.txt\n"))
        assert (found.constraints, found.others) == (("numpy<2", "peft<0.18"), ())

    def test_overrides_replace(self, tmp_path: Path) -> None:
        """[tool.uv]. What the project pins is not installed, and an override of no index is named."""
        text = (
            '[project]\ndependencies = ["trl==0.22.2", "transformers==4.55.0"]\n[tool.uv]\n'
            'override-dependencies = ["transformers==4.56.2", "torch==2.8.0", "peft @ git+https://x.org/peft"]\n'
        )
        found = wanted(written(tmp_path, "pyproject.toml", text))
        assert (found.overrides, found.constraints) == (("transformers==4.56.2",), ())
        assert found.not_followed[:2] == (
            f"torch==2.8.0: {PLATFORM}",
            "peft @ git+https://x.org/peft: an override that is not from an index; the resolver chose another version",
        )

    def test_what_conda_installed(self, tmp_path: Path) -> None:
        """The answer is about other versions of these packages; those that pip installs too are known."""
        conda = "dependencies:\n- conda-forge::transformers=4.56\n- trl=0.22\n- numpy=2\n- pip:\n  - trl==0.22.2\n"
        found = wanted(written(tmp_path, "environment.yml", conda))
        measured = "other versions are measured than those that conda installs"
        assert found.not_followed[1] == f"conda-forge::transformers=4.56: {measured}"
        only = written(tmp_path, "environment.yml", "dependencies:\n- trl=0.22\n")
        assert refusal(only) == (
            f"{only}: it names no packages\nThe gate compares the training stack. trl=0.22: a package of conda, and "
            "only those of pip are read.\nGive one that holds one or more of trl, transformers, peft, bitsandbytes, "
            "accelerate, datasets."
        )

    def test_a_list_of_pip_in_a_conda_environment(self, tmp_path: Path) -> None:
        """`pip freeze` has lost the versions of what conda built."""
        text = "trl==0.22.2\nmkl @ file:///croot/mkl_1/work\n"
        built = "file:///home/conda/feedstock_root/build_artifacts/peft_1/work"
        found = wanted(written(tmp_path, "requirements.txt", text))
        assert found.not_followed[0] == f"mkl @ file:///croot/mkl_1/work: left out, conda built it; {ANY}"
        path = written(tmp_path, "requirements.txt", f"{text}peft @ {built}\n")
        assert refusal(path).startswith(f"{path}:3: it does not state the version of peft\nconda installed it")

    def test_what_this_machine_has_no_build_of(self, tmp_path: Path) -> None:
        """Left out by name, with what its absence could hide."""
        text = "trl==0.22.2+ours\nflash-attn==2.7.4+cu12\nwandb==0.21.3\n"
        found = wanted(written(tmp_path, "requirements.txt", text))
        assert (list(map(str, found.requirements)), list(map(str, found.others))) == (
            ["trl==0.22.2"],
            ["wandb==0.21.3"],
        )
        assert found.not_followed[:2] == (
            "trl==0.22.2+ours: the gate uses 0.22.2 of the index; changes in this build are not seen",
            (
                "flash-attn==2.7.4+cu12: left out, the index has no such build; faults of "
                "attn_implementation='flash_attention_2' and of padding-free batches are not seen"
            ),
        )

    def test_a_package_of_the_stack_from_a_repository_is_built(self, tmp_path: Path) -> None:
        """Its secrets are for the installer only."""
        text = (
            "trl @ git+https://oauth2:glpat-abcdefghij0123456789@gitlab.example.com/ours/trl@main\n-e ./peft#egg=peft\n"
        )
        found = wanted(written(tmp_path, "requirements.txt", text))
        assert [move.name for move in found.built] == ["trl", "peft"]
        assert found.built[0].secret_address.startswith("git+https://oauth2:glpat-")
        assert "glpat" not in repr(found)
        assert found.built[1].secret_address == str(tmp_path / "peft")

    def test_extras_and_groups_that_bring_the_training_stack_are_installed(self, tmp_path: Path) -> None:
        """The others are named."""
        text = (
            '[project]\nname = "x"\ndependencies = ["wandb"]\n'
            '[project.optional-dependencies]\ntrain = ["trl==0.22.2", "rich"]\ndocs = ["sphinx", "furo"]\n'
        )
        found = wanted(written(tmp_path, "pyproject.toml", text))
        assert list(map(str, (*found.requirements, *found.others))) == ["trl==0.22.2", "wandb", "rich"]
        assert found.not_followed[0] == (
            "extra docs (sphinx, furo): not installed, because it brings no training package"
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

    def test_a_marker_without_order(self, tmp_path: Path) -> None:
        """The error has the line; `stacks/project_files` tests all others."""
        path = written(tmp_path, "requirements.txt", "trl==0.22.2; sys_platform ~= 'linux'\n")
        assert refusal(path).startswith(
            f"{path}:1: the marker 'sys_platform ~= \"linux\"' compares what has no order\n"
        )

    def test_without_a_package_of_the_stack(self, tmp_path: Path) -> None:
        """There is nothing to compare."""
        path = written(tmp_path, "requirements.txt", "flask==3.0\n")
        assert refusal(path) == (
            f"{path}: it names no package that the matrix resolves\nThe gate compares the training stack.\n"
            "Give one that holds one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        )


class TestLockFiles:
    def test_a_uv_lock(self, tmp_path: Path) -> None:
        """The entry for Linux of each package is used; the project itself is not a package."""
        found = wanted(written(tmp_path, "uv.lock", UV_LOCK))
        assert (list(map(str, found.requirements)), list(map(str, found.others))) == (["trl==0.22.2"], ["numpy==2.2.0"])
        assert found.not_followed[:3] == (
            "mine: the project itself; it is not installed",
            f"torch==2.8.0: {PLATFORM}",
            f"ours @ git+https://example.org/ours: left out, it is from a repository, not from an index; {ANY}",
        )
        assert found.python == "3.11"

    def test_a_pylock(self, tmp_path: Path) -> None:
        """A PEP 751 file gives the same."""
        found = wanted(written(tmp_path, "pylock.toml", PYLOCK))
        pins = (list(map(str, found.requirements)), list(map(str, found.others)))
        assert pins == (["trl==0.22.2"], ["tokenizers==0.22.0"])

    def test_packages_of_another_index_are_left_out(self, tmp_path: Path) -> None:
        """A name of a private index may be another package on the public one. A mirror has the training stack too."""
        private = UV_LOCK.replace("https://example.org/ours", "x").replace("git =", "registry =")
        private = private.replace('registry = "x"', 'registry = "https://u:secretpassword@pkg.example.com/simple"')
        found = wanted(written(tmp_path, "uv.lock", private))
        assert (
            f"ours==3: left out, it is from the index https://REDACTED@pkg.example.com/simple; {ANY}"
            in found.not_followed
        )
        mirrored = UV_LOCK.replace("https://pypi.org/simple", "https://mirror.example.com/simple")
        assert list(map(str, wanted(written(tmp_path, "uv.lock", mirrored)).others)) == ["numpy==2.2.0"]


class TestInterpreters:
    def test_what_is_installed_in_one(self, tmp_path: Path) -> None:
        """Its metadata is read, and the interpreter is not run; an environment's folder stands for its interpreter."""
        python = environment(tmp_path, "3.11", trl="0.22.2", peft="0.17.1", torch="2.8.0+cpu")
        url = {"url": "https://github.com/huggingface/peft", "vcs_info": {"vcs": "git", "commit_id": "0f9ab5d"}}
        (site(tmp_path, "3.11") / "peft-0.17.1.dist-info" / "direct_url.json").write_text(json.dumps(url))
        found = wanted(str(tmp_path))
        assert (found.rule, found.python) == (Rule.LIVE, "3.11")
        assert list(map(str, found.requirements)) == ["trl==0.22.2"]
        assert list(map(str, found.built)) == ["peft @ git+https://github.com/huggingface/peft@0f9ab5d"]
        assert found.not_followed[0] == f"torch==2.8.0+cpu: {PLATFORM}"
        assert wanted(str(python)) == found
        assert not (tmp_path / "ran").exists()

    def test_a_real_one_without_the_stack(self) -> None:
        """This interpreter has no TRL."""
        assert refusal(sys.executable) == (
            f"{sys.executable}: it names no package that the matrix resolves\n"
            "The gate compares the training stack.\n"
            "Give one that holds one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
        )

    def test_a_program_is_not_run(self, tmp_path: Path) -> None:
        """Also if it is called python, or is executable."""
        for name in ("python", "prepare", "deploy.sh"):
            program = tmp_path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
            program.chmod(0o755)
            refusal(str(program))
        assert not (tmp_path / "ran").exists()

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        """The message names the folder."""
        assert refusal(str(tmp_path)).startswith(
            f"{tmp_path}: this folder is neither a project nor a virtual environment\n"
        )

    def test_a_path_that_is_not_there(self) -> None:
        """A name with a slash or a file extension is a path."""
        for name in ("no/such/place", "missing.txt"):
            assert refusal(name).startswith(
                f"{name}: there is no such file or folder\n"
                f"Nothing is at {Path(name).absolute()}: the path is misspelt, or relative to another folder.\n"
            )


def site(folder: Path, python: str) -> Path:
    """The site-packages of an environment."""
    return folder / "lib" / f"python{python}" / "site-packages"


def environment(folder: Path, python: str, **packages: str) -> Path:
    """Make an environment with these packages; its interpreter leaves a file if it is run. Returns the interpreter."""
    for name, version in packages.items():
        (site(folder, python) / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    program = folder / "bin" / "python"
    program.write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    program.chmod(0o755)
    return program


class TestMoves:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Wanted:
        """A file with two packages."""
        return wanted(written(tmp_path, "requirements.txt", "trl==0.19.1\nwandb\n"))

    def test_pins_move_packages_of_a_project(self, project: Wanted) -> None:
        """Also the pin of a row: only what must follow moves."""
        found = read_target(["trl==0.22.2"], "--to", project, MATRIX)
        assert found == Upgrade((Move("trl", "==0.22.2"),), "3.11", in_project=True)
        assert read_target(["latest"], "--to", project, MATRIX) == Upgrade((), "3.11", in_project=True)

    def test_a_stack_and_a_file_are_sides_of_their_own(self, project: Wanted, tmp_path: Path) -> None:
        """They have all of their versions."""
        assert read_target(["trl0.22"], "--to", project, MATRIX) == Row(MATRIX.stack("trl0.22"), None)
        other = written(tmp_path, "new.txt", "trl==0.22.2\n")
        assert read_target([other], "--to", project, MATRIX) == wanted(other)

    def test_pins_beside_a_stack_are_a_stack(self) -> None:
        """There is no project in which they could move."""
        before = read_side(["trl0.19"], "--from", MATRIX)
        assert read_target(["trl==0.22.2"], "--to", before, MATRIX) == Row(MATRIX.stack("trl0.22"), None)

    def test_an_upgrade_names_packages(self, project: Wanted) -> None:
        """A name alone is its newest release."""
        moves = (Move("trl"), Move("wandb", ">=0.20"))
        assert read_upgrade(["trl", "wandb>=0.20"], project, MATRIX) == Upgrade(moves, "3.11", in_project=True)

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            (
                "wanbd",
                (
                    "--upgrade: wanbd is not a package of this side\nNames that look like it: wandb.\n"
                    "Name a package that the project names, or one of the training stack."
                ),
            ),
            (
                "torch==2.9",
                (
                    "--upgrade: torch==2.9 does not move\n"
                    "torch is the platform layer: its version is in matrices/stacks.toml, its build is the machine's.\n"
                    "Name one or more of trl, transformers, peft, bitsandbytes, accelerate, datasets."
                ),
            ),
            ("", "compat gate: --upgrade is empty\nName a package, such as --upgrade trl."),
        ],
    )
    def test_what_does_not_move(self, project: Wanted, word: str, message: str) -> None:
        """The message has the nearest name."""
        with pytest.raises(CompatError) as raised:
            read_upgrade([word], project, MATRIX)
        assert str(raised.value) == message

    def test_a_wheel_and_a_source_folder_of_the_stack(self, tmp_path: Path) -> None:
        """They are built; a folder of another project is read."""
        wheel = tmp_path / "trl-1.17.0.dev0-py3-none-any.whl"
        wheel.touch()
        source = tmp_path / "peft"
        source.mkdir()
        written(source, "pyproject.toml", '[project]\nname = "peft"\nversion = "0.18.dev0"\n')
        for path, name in ((wheel, "trl"), (source, "peft")):
            found = read_side([str(path)], "--to", MATRIX)
            assert found == Upgrade((Move(name, secret_address=str(path)),), "3.11", in_project=False)
        assert refusal(str(tmp_path / "wandb-1-py3-none-any.whl")) == (
            f"--to {tmp_path}/wandb-1-py3-none-any.whl: there is no such file\n"
            "The gate compares the training stack; the name of a wheel begins with its package.\n"
            "Name a wheel of trl, transformers, peft, bitsandbytes, accelerate, datasets."
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
        python = environment(tmp_path, "3.10", trl="0.22.2")
        assert refusal(str(python)) == (
            f"{python}: it needs Python 3.10\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these with --python, or give a file for one of them."
        )
        found = read_side([str(python)], "--to", MATRIX, "3.11")
        assert isinstance(found, Wanted) and found.python == "3.11"


def test_a_file_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "requirements.txt", "trl==0.22.2\n")
    assert wanted("requirements.txt").name == "requirements"
