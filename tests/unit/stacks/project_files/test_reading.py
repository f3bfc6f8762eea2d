"""Files of every kind, as real projects have them: each is read right, or refused with one right sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode, ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.value import Kind
from project_builders import CASES, read, shown

SHA = "0f9ab5d1c2b3a4958677665544332211ffeeddcc"


FLASH = (
    "https://github.com/Dao-AILab/flash-attention/releases/download/v2.7.4.post1/"
    "flash_attn-2.7.4.post1+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
)
CERTIFI = "file:///home/conda/feedstock_root/build_artifacts/certifi_1725278078093/work/certifi"

ACCEPTED: dict[str, tuple[Kind, str, list[str]]] = {
    "hashed/requirements.txt": (
        Kind.REQUIREMENTS,
        "",
        [
            "accelerate==1.10.1 on 9",
            'peft[test]==0.17.1 on 15 if python_version >= "3.9"',
            "trl==0.22.2 on 18",
            'uvloop==0.21.0 on 21 if sys_platform != "win32" and platform_machine == "arm64"',
        ],
    ),
    "included/requirements.txt": (
        Kind.REQUIREMENTS,
        "",
        [
            "transformers<4.57,>=4.55 on 1",
            "trl==0.22.2 on 1",
            "pyyaml~=6.0 on 2",
            "peft<0.18 on 1 only a limit",
            "numpy<2 on 2 only a limit",
        ],
    ),
    "bom/requirements.txt": (Kind.REQUIREMENTS, "", ["trl==0.22.2 on 1", "torch==2.8.0+cu126 on 4", "wandb on 5"]),
    "utf16/requirements.txt": (
        Kind.REQUIREMENTS,
        "",
        [
            "accelerate==1.10.1 on 1",
            "trl==0.22.2 on 2",
            "peft @ git+https://github.com/huggingface/peft.git@v0.17.1 on 3",
        ],
    ),
    "addresses/requirements.txt": (
        Kind.REQUIREMENTS,
        "",
        [
            "trl @ git+https://github.com/huggingface/trl.git@0f9ab5d#egg=trl on 2",
            "rewards @ git+https://REDACTED@gitlab.example.com/ours/rewards.git#egg=rewards on 4",
            "transformers @ https://github.com/huggingface/transformers/archive/refs/tags/v4.56.1.zip on 5",
            f"flash-attn @ {FLASH} on 6",
            'ours @ ./vendor/ours-0.1-py3-none-any.whl on 7 if python_version < "3.12"',
            "peft==0.17.1 on 9",
        ],
    ),
    "freeze/freeze.txt": (
        Kind.REQUIREMENTS,
        "",
        [
            "accelerate==1.10.1 on 1",
            f"certifi @ {CERTIFI} on 4",
            "nvidia-cublas-cu12==12.6.4.1 on 5",
            "peft==0.17.1 on 6",
            "torch==2.8.0+cu126 on 7",
            f"trl @ git+https://github.com/huggingface/trl.git@{SHA}#egg=trl on 8",
            "triton==3.4.0 on 9",
            "typing-extensions==4.15.0 on 10",
            "zope-interface==7.2 on 11",
        ],
    ),
    "rye/requirements.lock": (Kind.REQUIREMENTS, "", ["accelerate==1.10.1 on 8", "trl==0.22.2 on 10"]),
    "constrained/requirements.in": (
        Kind.REQUIREMENTS,
        "",
        [
            "trl[peft,vllm]<0.24,>=0.22 on 1",
            'bitsandbytes on 5 if platform_system == "Linux"',
            "tensorboard on 6",
        ],
    ),
    "pep621/pyproject.toml": (
        Kind.PYPROJECT,
        ">=3.11",
        [
            "trl<0.24,>=0.22 on 10",
            "accelerate on 11",
            "bitsandbytes>=0.47 on 15 in extra quant",
            "wandb on 16 in extra all",
            "pytest>=8 on 19 in group test",
            "pytest>=8 on 20 in group dev",
            "ruff on 20 in group dev",
        ],
    ),
    "poetry-open/pyproject.toml": (
        Kind.PYPROJECT,
        "<4.0,>=3.11",
        [
            "trl<0.23.0,>=0.22.1 on 7",
            "transformers<4.57,>=4.56 on 8",
            "peft[test]==0.17.* on 9",
            "accelerate on 10",
            "datasets<5,>=3 on 11",
            'torch==2.8.0 on 12 if sys_platform == "linux"',
            'torch==2.8.0 on 12 if sys_platform == "darwin"',
            "bitsandbytes<0.48,>=0.47 on 16 in extra quant",
            "wandb @ git+https://github.com/wandb/wandb.git@v0.21.3 on 17",
            "rewards @ ../rewards on 18",
            'numpy on 19 if python_full_version < "3.12"',
            "pytest<9.0,>=8.0 on 25 in group dev",
        ],
    ),
    "uv-sources/pyproject.toml": (
        Kind.PYPROJECT,
        "==3.11.*",
        [
            "trl @ git+https://github.com/huggingface/trl@0f9ab5d on 5",
            "peft==0.17.1 on 5",
            "rewards @ . on 5",
            "torch==2.8.0 on 5",
            "acme-data>=2 on 5",
            "ipython on 8 in group dev",
            "numpy<2.3 on 9 only a limit",
        ],
    ),
    "dynamic/pyproject.toml": (Kind.PYPROJECT, "", ["trl==0.22.2 on 1", "peft on 2"]),
    "legacy-extras/pyproject.toml": (Kind.PYPROJECT, "", ["trl~=0.22.0 on 6", "pytest on 2 in group test"]),
    "conda/environment.yml": (
        Kind.CONDA_ENVIRONMENT,
        "==3.11.*",
        ["trl==0.22.2 on 11", "peft>=0.17 on 12", "wandb==0.21.3 on 1"],
    ),
    "conda-lock/conda-lock.yml": (
        Kind.CONDA_LOCK,
        "==3.11.*",
        ["trl==0.22.2 on 33", "peft==0.17.1 on 51", "pytest==8.4.2 on 58 in group dev"],
    ),
    "script/train.py": (
        Kind.SCRIPT,
        ">=3.11",
        ["trl==0.22.2 on 5", "peft @ git+https://github.com/huggingface/peft@v0.17.1 on 6", "rich on 7"],
    ),
    "pip-list/packages.json": (
        Kind.PIP_LIST,
        "",
        [
            "accelerate==1.10.1 on 1",
            "chat-tuning @ /home/me/chat-tuning on 1",
            "peft==0.17.1 on 1",
            "torch==2.8.0+cu126 on 1",
            "trl==0.22.2 on 1",
            "typing-extensions==4.15.0 on 1",
        ],
    ),
    "uv-pip-list/packages.json": (Kind.PIP_LIST, "", ["peft==0.17.1 on 3", "trl==0.23.0.dev0 on 7"]),
    "poetry/poetry.lock": (
        Kind.POETRY_LOCK,
        "<4.0,>=3.11",
        [
            "bitsandbytes==0.47.0 on 3 in extra quant",
            'colorama==0.4.6 on 19 if (platform_system == "Windows") or (sys_platform == "win32")',
            "peft==0.17.1 on 31",
            "pytest==8.4.2 on 43 in group dev",
            "pywin32==311 on 54 if sys_platform == 'win32' and sys_platform == 'linux'",
            "rewards @ ../rewards on 65",
            "torch==2.8.0+cu126 on 79",
            f"trl @ git+https://github.com/huggingface/trl.git@{SHA} on 95",
        ],
    ),
    "pdm/pdm.lock": (
        Kind.PDM_LOCK,
        "<3.13,>=3.11",
        [
            "bitsandbytes==0.47.0 on 13 in group quant",
            'colorama==0.4.6 on 26 if sys_platform == "win32" or platform_system == "Windows"',
            "httpx==0.28.1 on 37",
            "peft @ git+https://github.com/huggingface/peft.git@11aa22bb33cc44dd55ee66ff77889900aabbccdd on 59",
            "pytest==8.4.2 on 68 in group test",
            "trl==0.22.2 on 77",
        ],
    ),
    "project": (Kind.REQUIREMENTS, "", ["trl==0.22.2 on 1", "peft==0.17.1 on 2"]),
}
"""What a reader of the file finds in it."""


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_file_has_the_packages_that_it_names(case: str) -> None:
    """With the line, marker and group of each."""
    kind, python, packages = ACCEPTED[case]
    found = read(case)
    assert (found.kind, found.requires_python, shown(found)) == (kind, python, packages)


INDEX = "another index; packages come from the default index"

UNREAD: dict[str, list[str]] = {
    "included/requirements.txt": [
        f"--extra-index-url https://REDACTED@pkg.example.com/simple: {INDEX}",
        "--trusted-host pkg.example.com: an option of pip",
    ],
    "addresses/requirements.txt": [
        f"{address}: a folder, an archive or a repository that states no name"
        for address in (".", "git+ssh://git@github.com/ours/internal-utils.git@main", "../shared")
    ],
    "conda/environment.yml": [
        f"{spec}: a package of conda, and only those of pip are read"
        for spec in ("python=3.11", "pytorch::pytorch=2.8.0=py3.11_cuda12.6_cudnn9_0", "numpy=2.2", "pip")
    ],
    "pep621/pyproject.toml": ["[tool.pixi]: packages of conda and of pip that another tool resolves together"],
    "poetry-open/pyproject.toml": [
        "numpy 1.26.4 || 2.2.0: PEP 440 has no such range",
        "https://download.pytorch.org/whl/cu126: another index; packages come from the default index",
    ],
    "uv-sources/pyproject.toml": [
        f"https://{host}: another index; packages come from the default index"
        for host in ("download.pytorch.org/whl/cu126", "REDACTED@pkg.acme.example/simple")
    ],
    "project": ["environment.yml: requirements.txt is read in its place"],
    "uv/uv.lock": ["chat-tuning: the project itself; it is not installed"],
    "hashed/requirements.txt": [],
}


@pytest.mark.parametrize("case", UNREAD)
def test_what_is_not_read_is_named_with_the_reason(case: str) -> None:
    """Without the secrets in it."""
    assert list(map(str, read(case).unread)) == UNREAD[case]


KINDS = (
    "Name a project folder, pyproject.toml, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml, "
    "requirements.txt, environment.yml, conda-lock.yml, a script with inline metadata, the output of `pip freeze` or "
    "`pip list --format json`, or a virtual environment."
)
TXT = (
    "It is read as a requirements file, the format of pip, because it is of no other kind.\n"
    "Correct that line; `pip install --dry-run -r FILE` reads the same format."
)
OF_CONDA = "Name the output of `pip freeze` in that environment, or its environment.yml."
UNREADABLE = "Name a lock file, a requirements.txt or the output of `pip freeze` of this project."

REFUSED = {
    "cargo/Cargo.lock": (
        "{}: this TOML file is none that names packages of Python\n"
        f"It has neither the tables of a pyproject.toml nor those of a lock file.\n{KINDS}"
    ),
    "merge/uv.lock": (
        "{}:6: it is not TOML: Invalid statement\nIt was edited by hand, or a merge broke it.\n"
        "Make it again: `uv lock`."
    ),
    "version2/uv.lock": (
        "{}:1: its format has version 2, and version 1 is read\nAnother release of the tool wrote this uv.lock.\n"
        "Export it as requirements.txt or pylock.toml, which every release of the tool writes alike."
    ),
    "pipenv-open/Pipfile": (f"{{}}: it is not read\nIt is the input of pipenv, without exact versions.\n{UNREADABLE}"),
    "setup.py": (
        f"{{}}: it is not read\nIt is a program that computes the packages, and it is never run.\n{UNREADABLE}"
    ),
    "explicit.txt": (
        "{}:4: this is a list of conda packages\n"
        f"`conda list --explicit` writes such files; they hold no packages of pip.\n{OF_CONDA}"
    ),
    "export.txt": (
        "{}:2: this is a list of conda packages\n"
        f"`conda list --export` writes such lines; pip does not read them.\n{OF_CONDA}"
    ),
    "table.txt": (
        "{}:1: this is a table that `pip list` or `conda list` prints\n"
        "It is made for people; names in it can be cut off.\nWrite it with `pip freeze` or `pip list --format json`."
    ),
    "plain.py": (
        "{}: it names no packages\n"
        "It has no `# /// script` block (PEP 723), and a script is never run to find out.\n"
        "Name the project's lock file or requirements.txt; `compat gate --flow` takes the script itself."
    ),
    "open-block.py": (
        "{}:1: its `# /// script` block has no end `# ///`\n"
        "The `# /// script` block of a script is TOML in comments (PEP 723).\nCorrect the block."
    ),
    "tools/pyproject.toml": (
        "{}: it names no packages\n"
        "It has neither [project], [dependency-groups] nor a table of uv, Poetry or PDM with packages.\n"
        "Name the project's requirements.txt, environment.yml or lock file."
    ),
    "equals.txt": f"{{}}:2: 'peft=0.17.1' has one equals sign; write peft==0.17.1\n{TXT}",
    "gone-include.txt": (
        f"{{}}:2: it includes {CASES}/refused/gone.txt: it cannot be read: No such file or directory\n{TXT}"
    ),
    "marker.txt": (
        "{}:1: 'trl==0.22.2; python_versio < \"3.12\"' is not a valid requirement: "
        f"Expected a marker variable or quoted string\n{TXT}"
    ),
    "Dockerfile": (
        "{}:1: 'FROM python:3.11' is not a valid requirement: "
        f"Expected semicolon (after name with no version specifier) or end\n{TXT}"
    ),
    "package.json": (
        "{}: it is {{'name': 'web', 'dependencies': {{}}}} and not a list of packages\n"
        "A JSON file must be what `pip list` or `uv pip list` prints, or a Pipfile.lock.\n"
        "Make it again: `pip list --format json`."
    ),
    "compose.yml": (
        "{}: it names no packages\n"
        "It is YAML, and neither a conda environment (`dependencies:`) nor a conda-lock file (`package:`).\n"
        "Name the project's environment.yml, lock file or requirements.txt."
    ),
    "run.sh": f"{{}}: this is a program, and it is not run\nA file is only read, also if it is executable.\n{KINDS}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_file_is_refused_with_one_sentence(case: str) -> None:
    """What, where, what it means, what to do."""
    path = CASES / "refused" / case
    with pytest.raises(ProjectFileError) as raised:
        read_project(path)
    assert str(raised.value) == REFUSED[case].format(path)
    assert raised.value.exit_code is ExitCode.BAD_INPUT


def test_nothing_there(tmp_path: Path) -> None:
    """A misspelt path, a broken link, a link to itself, and an empty folder."""
    (tmp_path / "broken.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    (tmp_path / "empty").mkdir()
    for name, problem in (
        ("uv.lok", "there is no such file or folder"),
        ("broken.txt", "it is a link to nothing"),
        ("loop.txt", "it is a link to nothing"),
        ("empty", "this folder is neither a project nor a virtual environment"),
    ):
        with pytest.raises(ProjectFileError) as raised:
            read_project(tmp_path / name)
        assert raised.value.what == problem


@pytest.mark.parametrize(
    ("file", "meaning", "todo"),
    [
        (
            "requirements-gpu.txt",
            "It has none of uv.lock, ",
            "Name the file that is meant, such as requirements-gpu.txt.",
        ),
        ("requirements/a.txt", "It has none of uv.lock, ", "Name the file that is meant, such as requirements/a.txt."),
        ("setup.py", "Its setup.py is not read. It is a program that computes", KINDS),
        ("pixi.lock", "Its pixi.lock is not read. pixi resolves packages of conda", KINDS),
    ],
)
def test_a_folder_without_a_usual_file(tmp_path: Path, file: str, meaning: str, todo: str) -> None:
    """Names the files that may be meant, or why one is not read."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("trl\n")
    with pytest.raises(ProjectFileError) as raised:
        read_project(tmp_path)
    assert str(raised.value.meaning).startswith(meaning)
    assert raised.value.todo == todo


def test_a_lock_precedes_what_it_was_made_from(tmp_path: Path) -> None:
    """A damaged lock is an error, and not passed over."""
    (tmp_path / "requirements.txt").write_text("trl==0.1\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["trl"]\n')
    lock = tmp_path / "uv.lock"
    lock.write_bytes((CASES / "uv" / "uv.lock").read_bytes())
    found = read_project(tmp_path)
    assert (found.kind, found.path) == (Kind.UV_LOCK, lock)
    assert "requirements.txt: uv.lock is read in its place" in map(str, found.unread)
    lock.write_text("version = 1\n[[package]]\n<<<<<<<\n")
    with pytest.raises(ProjectFileError, match="it is not TOML"):
        read_project(tmp_path)


def test_a_project_with_settings_of_tools_only_has_its_requirements(tmp_path: Path) -> None:
    """Many a pyproject.toml holds only the settings of linters."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    (tmp_path / "environment.yml").write_text("dependencies:\n  - pip:\n    - trl==0.22.2\n")
    assert shown(read_project(tmp_path)) == ["trl==0.22.2 on 3"]


def test_a_pipe_of_the_shell_is_read() -> None:
    """As in `compat gate --from <(pip freeze)`."""
    code = (
        "import sys; from pathlib import Path\nfrom finetune_compat.stacks.project_files.reading import read_project\n"
    )
    code += "print(*read_project(Path(sys.argv[1])).packages)"
    command = f"{sys.executable} -c '{code}' <(echo trl==0.22.2)"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "trl==0.22.2\n", done.stderr


def test_secrets_are_printed_nowhere() -> None:
    """The address with its secrets is for installers only."""
    found = read("uv-sources/pyproject.toml")
    source = next(item.source for item in found.packages if item.name == "acme-data")
    assert "hunter2hunter2" in source.secret_address
    assert "hunter2hunter2" not in f"{found!r}{found.packages}{found.unread}"


def test_reading_imports_neither_torch_nor_the_network() -> None:
    """`compat affected` waits for this import."""
    code = (
        "import sys; import finetune_compat.stacks.project_files.reading\n"
        "print([name for name in ('torch', 'urllib.request', 'http.client', 'pydantic', 'yaml', 'rich') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
