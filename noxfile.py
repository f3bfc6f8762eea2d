# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "fsspec>=2023.12,<2027",
#   "jinja2>=3.1,<4",
#   "libcst>=1.5,<2",
#   "markupsafe>=2.1,<4",
#   "nox>=2026.8.10,<2027",
#   "numpy>=1.26,<3",
#   "nvidia-ml-py>=12.535.77,<14",
#   "packaging>=26.3,<27",
#   "pip>=23.2,<27",
#   "platformdirs>=4.4,<5",
#   "poetry-core>=1.9,<3",
#   "pydantic>=2.13,<3",
#   "pyyaml>=6.0.4,<7",
#   "rich>=13.8,<16",
#   "safetensors>=0.6.2,<1",
#   "tomli>=2.5,<3",
#   "typer>=0.29,<1",
#   "uv>=0.13,<1",
# ]
# ///
"""Does fine-tuning still train on these versions? Sessions that run stacks, compare versions, and test the harness.

  nox -s "compat-3.11(trl='0.22')"     run every flow on one stack
  nox -s compat-3.11 -j 2              run every stack of Python 3.11, two in parallel
  nox -s gate -- --from X --to Y       may I upgrade? X and Y: a stack, trl==0.22.2, a lock file or an interpreter
  nox -s tests lint                    test and lint the harness

Arguments after -- of compat sessions; `compat run` has the same ones, and unknown arguments are passed to pytest
(for example -k sft-peft-model):

  cells       --tier default (cells that tell releases apart)|full|deep|deep-only, --cells FILE (one id per line),
              --steps N, --model ID_OR_PATH (real weights), --fresh (also run cached cells), --limit SECONDS and
              --memory-limit SIZE of a cell, --pass-env NAME (a variable that cells get too)
  device      --device cpu|cuda|auto, --gpus N, --gpu-idle-below GB, --gpu-larger-than GB, --attention NAME
  packages    --base-python PY (use its torch), --base-torch (use the torch of the Python that runs nox), --offline,
              --wheelhouse DIR (docs/air-gapped.md)
  instead     --seeds N or FIRST-LAST (error rates of the learning test), --faults (plant faults), --closed-forms,
              --adapters, --guard, --pipelines (watch users' scripts), --branches (device-dependent branches taken),
              --overhead, --guard-overhead

The stacks are in matrices/stacks.toml; `compat stacks` lists their versions.
Not yet measured on a GPU: verdicts of a GPU and of a CPU that emulates one were not compared.
"""

# With the block at the top, any nox can run this file from a fresh clone. A test compares it with pyproject.toml.

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import nox

HERE = Path(__file__).parent
# nox may run in an environment without this project.
sys.path.insert(0, str(HERE / "harness"))

nox.needs_version = ">=2026.8.10"  # the first version with --parallel
nox.options.sessions = ["tests", "lint"]


@nox.session(allow_parallel=True)
def tests(session: nox.Session) -> None:
    """Run the tests of the harness, without torch, in minutes."""
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
        known = ("gate", "--cached", "--from", "trl==0.19.1", "--to", "trl==0.22.2")
        session.run("compat", *known, success_codes=[2], silent=True)  # trl#3926, from the baselines in the wheel


@nox.session(allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style, format, types and imports."""
    session.install("--editable", ".[host]", "--group", "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    # These tests run inside a stack's environment. On the host, only mypy sees that a name they use was renamed. Each
    # directory is checked alone, because each has a module called conftest.
    for directory in ("adapters", "benchmarks", "families", "guard", "independent_faults", "mutation", "pipelines"):
        session.run("mypy", "--allow-subclassing-any", f"tests/{directory}")


@nox.session(allow_parallel=True)
def pages(session: nox.Session) -> None:
    """Test report pages in headless Chromium, which is required; `-- --shots DIR` saves pictures."""
    session.install("--editable", ".[host]", "--group", "pages")
    session.run("pytest", "-c", "tests/pages/pytest.ini", "tests/pages", *session.posargs)


@nox.session(allow_parallel=True)
def engine(session: nox.Session) -> None:
    """Test `compat run --engine ray` on a Ray cluster of several node processes, of which one is killed."""
    session.install("--editable", ".[host,ray]", "--group", "dev")
    session.run("pytest", "-c", "tests/engine/pytest.ini", "tests/engine", *session.posargs)


@nox.session(name="engine-lowest", allow_parallel=True)
def engine_lowest(session: nox.Session) -> None:
    """The same tests with the oldest release of Ray, and of every other dependency, that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "--editable", ".[host,ray]", "--group", "dev")
    session.run("pytest", "-c", "tests/engine/pytest.ini", "tests/engine", *session.posargs)


@nox.session(allow_parallel=True)
def workflows(session: nox.Session) -> None:
    """Check the workflows of .github against the provider's schema, and for unsafe patterns."""
    session.install("--group", "workflows")
    found = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *found)
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", ".github/actions/gate/action.yml")
    session.run(
        "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *sorted(map(str, Path("templates").glob("*.yml")))
    )
    session.run("zizmor", "--offline", "--no-progress", ".github")


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Resolve the stacks named after --, or all, into matrices/locks/."""
    _compat(session, "lock")


@nox.session(python=False)
def report(session: nox.Session) -> None:
    """Print the report of the run named after --, or of the latest."""
    _compat(session, "report")


@nox.session(python=False)
def gate(session: nox.Session) -> None:
    """May I upgrade? Fails unless ALLOW: nox -s gate -- --from trl==0.19.1 --to trl==0.22.2."""
    # A gate makes its own run and report. Without a run id here, nox prints no matrix report for it at the end.
    command = (sys.executable, "-m", "finetune_compat", "gate", *session.posargs)
    session.run(*command, external=True, env={"COMPAT_RUN_ID": None})


@nox.session(python=False)
def exam(session: nox.Session) -> None:
    """Is compat watch right about scripts it does not know? -- [STACK]... [-k WORDS] [-j N] [--planted]."""
    env = {"PYTHONPATH": str(HERE / "harness")}
    session.run(sys.executable, "-m", "finetune_compat.evidence.exam", *session.posargs, external=True, env=env)


@nox.session(python=False)
def corpus(session: nox.Session) -> None:
    """Which adapters saved by which PEFT does which newer one load? Writes reports/adapters/."""
    env = {"PYTHONPATH": str(HERE / "harness")}
    session.run(sys.executable, "-m", "finetune_compat.evidence.adapter_corpus", external=True, env=env)


@nox.session(python=False)
def trajectories(session: nox.Session) -> None:
    """Do ways to run one training give the same losses? Writes reports/trajectories/. -- [STACK]..."""
    env = {"PYTHONPATH": str(HERE / "harness")}
    module = "finetune_compat.evidence.trajectories"
    session.run(sys.executable, "-m", module, *session.posargs, external=True, env=env)


TRUST = ("faults", "fuzz", "alarms")
"""Parts of `nox -s trust`: tests of tests/fault_matrix.toml, tests/unit/test_fuzz.py, decisions between equal sides."""


@nox.session
def trust(session: nox.Session) -> None:
    """What the harness itself withstands; `-- faults fuzz alarms 500`: parts to run, and examples of the fuzzing."""
    # Each part is stored when it ends, and the page has the last result of each: an interrupted session costs one part.
    unknown = [word for word in session.posargs if word not in TRUST and not word.isdecimal()]
    if unknown:
        session.error(f"{unknown[0]}: not one of {', '.join(TRUST)}, or a number of examples")
    parts = [word for word in TRUST if word in session.posargs] or TRUST
    examples = next((word for word in session.posargs if word.isdecimal()), "500")
    session.install("--editable", ".[host]", "--group", "dev")
    matrix = tomllib.loads((HERE / "tests" / "fault_matrix.toml").read_text(encoding="utf-8"))["fault"]
    found = Path(session.create_tmp()).resolve()
    write = ("python", "-m", "finetune_compat.evidence.trust")
    # A test that fails is a row of the page, and the session fails at its end.
    if "faults" in parts:
        ids = [row["test"] for row in matrix if row["test"]]
        session.run("pytest", *ids, "--junitxml", str(found / "tests.xml"), success_codes=[0, 1])
        session.run(*write, "--tests", str(found / "tests.xml"), success_codes=[0, 1])
    if "fuzz" in parts:
        fuzz = ("tests/unit/test_fuzz.py", "--junitxml", str(found / "fuzz.xml"))
        session.run("pytest", *fuzz, env={"COMPAT_FUZZ_EXAMPLES": examples}, success_codes=[0, 1])
        session.run(*write, "--fuzz", str(found / "fuzz.xml"), "--examples", examples, success_codes=[0, 1])
    if "alarms" in parts:
        session.run("python", "-m", "finetune_compat.evidence.false_alarms", success_codes=[0, 1])
    session.run(*write)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Measure the harness against doing the same without it; options: --only, --stacks, --quick."""
    path = os.pathsep.join((str(HERE / "harness"), str(HERE / "tests" / "benchmarks")))
    session.run(sys.executable, "-m", "side_by_side", *session.posargs, external=True, env={"PYTHONPATH": path})


def _compat(session: nox.Session, command: str) -> None:
    session.run(sys.executable, "-m", "finetune_compat", command, *session.posargs, external=True)


# Registers the compat sessions. Last, because `nox -l` lists sessions in the order of registration.
import finetune_compat.noxfile  # noqa: E402, F401
