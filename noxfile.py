# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "fsspec>=2023.12",
#   "jinja2>=3.1",
#   "markupsafe>=2.1",
#   "nox>=2026.8.10",
#   "numpy>=1.26",
#   "nvidia-ml-py>=12.535.77",
#   "packaging>=26.3",
#   "pip>=23.2",
#   "platformdirs>=4.4",
#   "pydantic>=2.7",
#   "rich>=13.8",
#   "safetensors>=0.4.1",
#   "typer>=0.28",
#   "uv>=0.9",
# ]
# ///
"""What breaks when the fine-tuning stack is upgraded, measured.

  nox -s "compat-3.11(trl='0.22')"     run every flow on one stack
  nox -s compat-3.11 -j 2              every stack of that Python, two side by side
  nox -s gate -- --from X --to Y       may I upgrade? a stack, trl==0.22.2, a lock file or an interpreter each
  nox -s tests lint                    the harness's own checks

Arguments after -- : --device cpu|cuda|auto, --gpus N (at most so many, each a worker), --gpu-idle-below GB and
--gpu-larger-than GB (which ones), --attention NAME, --base-python PY (its torch), --base-torch (that of the Python that
runs nox), --offline, --wheelhouse DIR (no registry, a folder of wheels: docs/air-gapped.md), --steps N, --limit SECONDS
and --memory-limit SIZE a cell (such as 3GiB), --cells FILE (ids, a line each, in that order), --fresh (run also what
the store has), --tier quick|deep|deep-only, --seeds N or FIRST-LAST (how often the learning test is wrong), --model
ID_OR_PATH (real weights in place of the tiny models). In place of the cells: --faults (plant faults, see them named),
--closed-forms, --adapters, --guard, --pipelines (scripts of users, watched), --overhead, --guard-overhead. All others
go to pytest (-k sft-peft-model). The stacks are in matrices/stacks.toml; `compat stacks` shows their versions.
Not yet measured on a GPU: verdicts of cuda and of an emulating CPU have not been compared.
"""

# The block at the top lets any nox run this file from a fresh clone. A test keeps it equal to pyproject.toml.

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

HERE = Path(__file__).parent
# A nox of its own environment does not have this project installed.
sys.path.insert(0, str(HERE / "harness"))

nox.needs_version = ">=2026.8.10"  # the first with --parallel
nox.options.sessions = ["tests", "lint"]


@nox.session(allow_parallel=True)
def tests(session: nox.Session) -> None:
    """The harness's own tests, without torch, in minutes."""
    session.install("--editable", ".[host]", "--group", "dev")
    session.run("pytest", "--numprocesses", "auto", *session.posargs)


@nox.session(name="tests-lowest", allow_parallel=True)
def tests_lowest(session: nox.Session) -> None:
    """The same tests with the oldest release of every dependency that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "--editable", ".[host]", "--group", "dev")
    session.run("pytest", "--numprocesses", "auto", *session.posargs)


@nox.session(allow_parallel=True, reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """The wheel, alone and with its extra, in an empty directory: no checkout is there to lean on."""
    built = Path(session.create_tmp()).resolve()
    session.run("uv", "build", "--quiet", "--wheel", "--clear", "--out-dir", str(built), external=True)
    file, empty = next(built.glob("*.whl")), built / "empty"
    empty.mkdir(exist_ok=True)
    with session.chdir(empty):
        session.install(str(file))
        session.run("uv", "pip", "check", external=True)
        session.run("python", "-c", "import finetune_compat.contract.records")
        session.run("compat", "stacks", success_codes=[4])  # one sentence: the extra is not installed
        session.install(f"{file}[host]")
        for command in ("--version", "stacks --json", "census --list"):
            session.run("compat", *command.split(), silent=True)


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Lint, format and types."""
    session.install("--editable", ".[host]", "--group", "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    # Tests that run inside a stack's environment: nothing else on the host side would see what they call renamed. One
    # by one, since each directory has modules of its own called conftest.
    for directory in ("adapters", "benchmarks", "families", "guard", "mutation", "pipelines"):
        session.run("mypy", "--allow-subclassing-any", f"tests/{directory}")


@nox.session(allow_parallel=True)
def pages(session: nox.Session) -> None:
    """Every page of the reports in headless Chromium; `-- --shots DIR` keeps pictures. Without a Chromium it fails."""
    session.install("--editable", ".[host]", "--group", "pages")
    session.run("pytest", "-c", "tests/pages/pytest.ini", "tests/pages", *session.posargs)


@nox.session(allow_parallel=True)
def workflows(session: nox.Session) -> None:
    """The workflows of .github against the provider's schema, and past a linter for what makes them unsafe."""
    session.install("--group", "workflows")
    found = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *found)
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", ".github/actions/gate/action.yml")
    session.run("zizmor", "--offline", "--no-progress", ".github")


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Resolve the matrix into matrices/locks/: all of it, or the stacks named after --."""
    _compat(session, "lock")


@nox.session(python=False)
def report(session: nox.Session) -> None:
    """The report of the latest run, or of the one named after --."""
    _compat(session, "report")


@nox.session(python=False)
def gate(session: nox.Session) -> None:
    """May I upgrade? Fails unless ALLOW: nox -s gate -- --from trl==0.19.1 --to trl==0.22.2."""
    # Its run is its own and has its own report: nox must not end with one of it as of a run of the matrix.
    command = (sys.executable, "-m", "finetune_compat", "gate", *session.posargs)
    session.run(*command, external=True, env={"COMPAT_RUN_ID": None})


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """What the harness costs beside the ways it could be done without it; --only, --stacks and --quick after --."""
    path = os.pathsep.join((str(HERE / "harness"), str(HERE / "tests" / "benchmarks")))
    session.run(sys.executable, "-m", "side_by_side", *session.posargs, external=True, env={"PYTHONPATH": path})


def _compat(session: nox.Session, command: str) -> None:
    session.run(sys.executable, "-m", "finetune_compat", command, *session.posargs, external=True)


# Registers compat-3.11 and the like. Last, as `nox -l` lists sessions in the order of their registration.
import finetune_compat.noxfile  # noqa: E402, F401
