"""Sides that are files, folders and environments: what is installed, what is left out, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from finetune_compat.gate.decision import Rule
from project_builders import uv_lock
from side_builders import ANY, MATRIX, PLATFORM, environment, refusal, site, wanted, written

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


def test_a_file_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "requirements.txt", "trl==0.22.2\n")
    assert wanted("requirements.txt").name == "requirements"
