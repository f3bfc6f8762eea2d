"""The workflows, the action and the templates: what they compare, run and write, and what the nightly run contains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.gate import hook
from finetune_compat.gate.known import COMPARED, read_known
from finetune_compat.machine.places import places
from packaging.requirements import Requirement

FAULTS = places().faults

ROOT = Path(__file__).parent.parent.parent
GATE = ROOT / ".github" / "workflows" / "gate.yml"
ACTION = ROOT / ".github" / "actions" / "gate"

NIGHTLY, DOCS = GATE.with_name("nightly.yml"), GATE.with_name("docs.yml")

SHELL = ("bash", "-eo", "pipefail", "-c")
"""Options with which GitHub runs a step."""


def git(*arguments: str, at: Path) -> str:
    """Return git's output."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=at, capture_output=True, text=True, check=True).stdout.strip()


Step = Callable[..., tuple[int, str, dict[str, str]]]


@pytest.fixture
def both_locks(tmp_path: Path) -> Step:
    """Run the step on a base commit with these files and a head commit with those changes: status, output, outputs."""

    def run(base: dict[str, str], head: dict[str, str], lock: str = "") -> tuple[int, str, dict[str, str]]:
        root, temporary, outputs = (tmp_path / name for name in ("root", "temporary", "outputs"))
        for folder in (root, temporary):
            folder.mkdir()
        git("init", "--quiet", at=root)
        for files in (base, head):
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            git("add", "--all", at=root)
            git("commit", "--quiet", "--allow-empty", "--message", "a", at=root)
        given = {"BASE": git("rev-parse", "HEAD^", at=root), "LOCK": lock, "RUNNER_TEMP": str(temporary)}
        done = subprocess.run(
            [str(ACTION / "locks.sh")],
            cwd=root,
            env={**os.environ, **given, "GITHUB_OUTPUT": str(outputs)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = outputs.read_text().splitlines() if outputs.exists() else []
        found = {key: Path(path).read_text() for key, _, path in (line.partition("=") for line in told)}
        return done.returncode, done.stdout.replace(str(tmp_path), ""), found

    return run


def test_the_one_that_changed_is_compared(both_locks: Step) -> None:
    """An unchanged lock file is not compared: it would equal itself and be allowed."""
    base = {"uv.lock": "u", "requirements.txt": "-r more.txt", "more.txt": "old"}
    _, _, found = both_locks(base, {"requirements.txt": "-r more.txt\ntrl"})
    assert found == {"before": "-r more.txt", "after": "-r more.txt\ntrl"}


def test_includes_have_the_content_of_their_commit(both_locks: Step, tmp_path: Path) -> None:
    """A requirements file needs its includes."""
    both_locks({"requirements.txt": "-r more.txt", "more.txt": "old"}, {"requirements.txt": "trl", "more.txt": "new"})
    assert (tmp_path / "temporary" / "before" / "more.txt").read_text() == "old"


PATHS = (
    "uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml, requirements*.txt, requirements/**, constraints*.txt"
)


def test_a_pull_request_that_changes_any_of_them_is_gated() -> None:
    """The trigger's patterns agree with the step below."""
    assert f"    paths: [{PATHS}]\n" in GATE.read_text()


@pytest.mark.parametrize(
    "include",
    [
        "requirements-gpu.txt",
        "requirements/base.txt",
        "requirements/gpu/base.txt",
        "constraints.txt",
        "constraints-1.txt",
    ],
)
def test_a_change_of_an_include_alone_is_one_of_the_file(both_locks: Step, tmp_path: Path, include: str) -> None:
    """Both sides are compared with their own includes, before and after."""
    base = {"uv.lock": "u", "requirements.txt": f"-r {include}", include: "old"}
    status, _, found = both_locks(base, {include: "new"})
    assert (status, found) == (0, dict.fromkeys(("before", "after"), f"-r {include}"))
    folders = (tmp_path / "temporary" / "before", tmp_path / "root")
    assert [(folder / include).read_text() for folder in folders] == ["old", "new"]


@pytest.mark.parametrize("other", ["docs/requirements.txt", "docs/constraints.txt", "requirements-gpu.toml"])
def test_a_file_in_a_subfolder_is_not_compared(both_locks: Step, other: str) -> None:
    """A path pattern does not match in subfolders, and neither does the step."""
    assert both_locks({"requirements.txt": "r", other: "old"}, {other: "new"})[:2] == (
        1,
        "::error::no lock file changed\n",
    )


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"])
def test_a_lock_goes_before_requirements(both_locks: Step, lock: str) -> None:
    """A lock pins what the requirements ask for."""
    base = {lock: "a", "requirements.txt": "r", "constraints.txt": "c"}
    assert both_locks(base, {lock: "b", "requirements.txt": "s", "constraints.txt": "d"})[2] == {
        "before": "a",
        "after": "b",
    }


def test_a_named_file_is_compared(both_locks: Step) -> None:
    """A named file is compared, whatever else changed."""
    base = {"uv.lock": "u", "locks.txt": "a"}
    assert both_locks(base, {"uv.lock": "v", "locks.txt": "b"}, "locks.txt")[2] == {"before": "a", "after": "b"}


def test_a_misspelt_name_selects_no_other_file(both_locks: Step) -> None:
    """Otherwise another lock would be gated instead."""
    status, said, found = both_locks({"uv.lock": "u"}, {"uv.lock": "v"}, "uv.look")
    assert (status, found) == (1, {})
    assert said == "::error::/temporary/before/uv.look is not there: nothing to compare\n"


def test_a_new_lock_is_reported(both_locks: Step) -> None:
    """There is nothing to compare it with."""
    status, said, _ = both_locks({"a": "a"}, {"uv.lock": "v"})
    assert (status, said) == (1, "::error::/temporary/before/uv.lock is not there: nothing to compare\n")


def test_without_a_change_there_is_no_gate(both_locks: Step) -> None:
    """No file is compared with itself."""
    assert both_locks({"uv.lock": "u"}, {"a": "a"})[:2] == (1, "::error::no lock file changed\n")


def test_every_night_plants_the_faults_on_the_stacks_whose_records_are_committed() -> None:
    """No other stack is in the nightly run: a record that is never measured again becomes stale."""
    text = NIGHTLY.read_text(encoding="utf-8")
    found = re.search(r"\n  faults:\n.*?trl: (\[.*?\]).*?run: (nox.*?)\n", text, re.DOTALL)
    assert found is not None
    nightly = {f"trl{label}-py311" for label in json.loads(found[1])}
    assert nightly == {path.stem for path in FAULTS.glob("*.json")}
    assert found[2] == "nox -s \"compat-3.11(trl='$TRL')\" -- --faults --device cpu"
    assert "run: python -m finetune_compat.evidence.score_floors\n" in text


def test_every_night_runs_the_cells_of_the_plan() -> None:
    """The jobs run the cells of their part, on the device and tier that the plan was made for."""
    text = NIGHTLY.read_text(encoding="utf-8")
    assert 'compat shards --jobs "$JOBS" --device cuda --tier deep --out plan --json' in text
    assert "CELLS: plan/${{ matrix.cells }}\n" in text
    assert '-- --cells "$CELLS" --device cuda --tier deep' in text
    assert "--plan parts/plan/plan.json" in text


def test_every_relative_link_of_the_site_resolves(tmp_path: Path) -> None:
    """The site has the paths of the repository. Its first page is replaced here, because it has no relative links."""
    checkout, commands = tmp_path / "checkout", tmp_path / "bin"
    for folder in ("docs", "reports", "harness/finetune_compat/gate/report"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        shutil.copy(ROOT / name, checkout)
    commands.mkdir()
    (commands / "compat").write_text('#!/bin/sh\necho "$@"\n: > site/index.html\n')
    (commands / "compat").chmod(0o755)
    script = re.search(r"- id: site\n *run: \|\n(.*?)(?=\n {6}- )", DOCS.read_text(), re.DOTALL)
    assert script is not None
    path = os.pathsep.join((str(commands), os.environ["PATH"]))
    subprocess.run([*SHELL, textwrap.dedent(script[1])], cwd=checkout, env={"PATH": path}, check=True)
    site = checkout / "site"
    pages = sorted(site.rglob("*.md"))
    links = [
        (page, link.partition("#")[0])
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8")))
        if not link.startswith(("https://", "#"))
    ]
    assert {page.relative_to(site).as_posix() for page in pages} >= {"docs/evidence.md", "reports/README.md"}
    assert [(page.name, link) for page, link in links if not (page.parent / link).resolve().is_relative_to(site)] == []
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


class TestRadar:
    """The workflow that follows the package index."""

    JOBS = (GATE.with_name("radar.yml").read_text()).partition("\njobs:\n")[2]

    def test_the_job_that_installs_young_releases_can_write_nothing(self) -> None:
        """A malicious release finds no token that writes, and no secret."""
        latest, _, rows = self.JOBS.partition("\n  rows:\n")
        assert "compat run --tier full latest pre" in latest
        assert "contents: read" in latest
        assert not re.search(r"write|secrets\.|github\.token", latest.replace("no write permission", ""))
        assert "compat run" not in rows


def commands(folder: Path, **scripts: str) -> dict[str, str]:
    """Put stand-ins of commands first on the PATH; return the environment."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    return {"PATH": os.pathsep.join((str(folder), os.environ["PATH"]))}


class TestTheAction:
    def gated(self, tmp_path: Path, code: int, arguments: str = "") -> tuple[int, str, dict[str, str], str]:
        """Run the gate's step with a command that ends with `code`: status, output, outputs and the step's summary."""
        report = 'mkdir -p "$OUT/$COMPAT_RUN_ID"; echo "# the answer" > "$OUT/$COMPAT_RUN_ID/gate.md"'
        given = commands(tmp_path / "bin", compat=f'printf "<%s>" "$@"; {report}; exit {code}')
        files = {name: tmp_path / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.touch()
        environ = {
            **given,
            **{name: str(file) for name, file in files.items()},
            "COMPAT": "compat",
            "BEFORE": "a lock; touch hacked",
            "AFTER": "$(touch hacked)",
            "ARGUMENTS": arguments,
            "COMPAT_RUN_ID": "gate-1-1",
            "OUT": str(tmp_path / "out"),
        }
        done = subprocess.run(
            [str(ACTION / "gate.sh")], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs = {key: value for key, _, value in (line.partition("=") for line in lines)}
        return done.returncode, done.stdout, outputs, files["GITHUB_STEP_SUMMARY"].read_text()

    @pytest.mark.parametrize(
        ("code", "decision"),
        [(0, "ALLOW"), (1, "HOLD"), (2, "BLOCK"), (3, "COULD_NOT_TELL"), (4, "BAD_INPUT"), (127, "COULD_NOT_TELL")],
    )
    def test_the_decision_is_an_output_and_its_code_that_of_the_step(
        self, tmp_path: Path, code: int, decision: str
    ) -> None:
        """The step fails unless the decision is ALLOW."""
        status, _, outputs, summary = self.gated(tmp_path, code)
        assert (status, outputs) == (code, {"decision": decision, "directory": str(tmp_path / "out" / "gate-1-1")})
        assert summary == "# the answer\n"

    def test_inputs_are_data(self, tmp_path: Path) -> None:
        """None of them is a command, and each line of the arguments is one argument."""
        _, out, _, _ = self.gated(tmp_path, 0, "--flows\nsft-peft-config, sft-full\n\n")
        assert (
            "<gate><--from><a lock; touch hacked><--to><$(touch hacked)><--out>"
            f"<{tmp_path / 'out'}><--flows><sft-peft-config, sft-full>"
        ) in out
        assert not (tmp_path / "hacked").exists()

    def test_what_packages_print_is_no_command_of_the_runner(self, tmp_path: Path) -> None:
        """The output is between a token and the same token, which nobody can guess."""
        _, out, _, _ = self.gated(tmp_path, 0)
        first, _, last = out.partition("<gate>")
        token = first.removeprefix("::stop-commands::").strip()
        assert re.fullmatch(r"[0-9a-f]{32}", token) and last.rstrip().endswith(f"::{token}::")

    def written(self, tmp_path: Path, answer: str, code: int = 0) -> tuple[int, str, str]:
        """Run the comment's step with a provider that answers so: status, output, and the calls that write."""
        listing = f'if [[ "$*" == *--jq* ]]; then echo -n "{answer}"; exit 0; fi'
        given = commands(tmp_path / "bin", gh=f'{listing}\necho "$@" >> "$CALLS"; exit {code}')
        (tmp_path / "gate-comment.md").write_text("text")
        environ = {
            **given,
            "CALLS": str(tmp_path / "calls"),
            "BODY": str(tmp_path / "gate-comment.md"),
            "GH_REPO": "own/pipeline",
            "NUMBER": "7",
        }
        done = subprocess.run([str(ACTION / "comment.sh")], env=environ, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, (tmp_path / "calls").read_text()

    def test_there_is_one_comment(self, tmp_path: Path) -> None:
        """The first is written, and replaced from then on."""
        field = f"--field body=@{tmp_path / 'one' / 'gate-comment.md'}\n"
        (tmp_path / "one").mkdir()
        assert self.written(tmp_path / "one", "") == (0, "", f"api repos/own/pipeline/issues/7/comments {field}")
        (tmp_path / "two").mkdir()
        assert self.written(tmp_path / "two", "42") == (
            0,
            "",
            f"api --method PATCH repos/own/pipeline/issues/comments/42 {field.replace('/one/', '/two/')}",
        )

    def test_a_token_that_cannot_write_fails_nothing(self, tmp_path: Path) -> None:
        """Those of forks cannot. The decision stands in the step."""
        status, out, _ = self.written(tmp_path, "", code=1)
        assert (status, out.startswith("::warning::the comment could not be written")) == (0, True)

    def test_both_sides_may_be_named(self, tmp_path: Path) -> None:
        """Then no base commit is needed."""
        outputs = tmp_path / "outputs"
        environ = {**os.environ, "FROM": "uv.lock", "TO": "trl==1.16.0", "GITHUB_OUTPUT": str(outputs)}
        subprocess.run([str(ACTION / "locks.sh")], env=environ, check=True)
        assert outputs.read_text() == "before=uv.lock\nafter=trl==1.16.0\n"

    def test_every_input_is_used_and_every_step_is_pinned(self) -> None:
        """By commit: a tag can be moved."""
        text = (ACTION / "action.yml").read_text()
        declared = re.findall(r"^  ([a-z-]+):$", text.partition("outputs:")[0], re.MULTILINE)
        assert declared and all(f"inputs.{name} " in text for name in declared)
        assert all(re.fullmatch(r"\S+@[0-9a-f]{40} # v[\d.]+", use) for use in re.findall(r"uses: (.*)", text))


class TestTheHook:
    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A repository with a committed lock of TRL 0.19."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COMPAT_RUN_ID", "hook")
        git("init", "--quiet", at=tmp_path)
        self.lock(tmp_path, "trl0.19-py311")
        git("add", "--all", at=tmp_path)
        git("commit", "--quiet", "--message", "a", at=tmp_path)
        return tmp_path

    def lock(self, at: Path, stack: str) -> None:
        """Write the versions of a stack of the baselines."""
        held = next(one for one in read_known().stacks if one.name == stack)
        (at / "requirements.txt").write_text("".join(f"{name}=={held.versions[name]}\n" for name in COMPARED))

    def test_a_lock_that_breaks_training_is_refused(self, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """trl#3926, with its line."""
        self.lock(repository, "trl0.22-py311")
        assert hook.main(["requirements.txt"]) == 1
        assert "trl#3926" in capsys.readouterr().out

    def test_other_changes_pass(self, repository: Path) -> None:
        """A step without a regression, versions that nobody measured, and a new file."""
        self.lock(repository, "trl1.10-py311")
        git("commit", "--quiet", "--all", "--message", "b", at=repository)
        self.lock(repository, "trl1.11-py311")
        assert hook.main(["requirements.txt"]) == 0
        (repository / "requirements.txt").write_text("trl==0.0.1\n")
        assert hook.main(["requirements.txt"]) == 0
        (repository / "requirements-new.txt").write_text("trl==1.0.0\n")
        assert hook.main(["requirements-new.txt"]) == 0

    def test_the_hook_is_declared_for_the_files_that_it_reads(self) -> None:
        """pre-commit matches the path with `re.search`."""
        text = (ROOT / ".pre-commit-hooks.yaml").read_text()
        found = re.search(r"files: (.*)", text)
        assert found is not None and f"python -m {hook.__name__}" in text
        for name in ("uv.lock", "a/poetry.lock", "pylock.toml", "pylock.train.toml", "requirements-gpu.txt"):
            assert re.search(found[1], name)
        assert not re.search(found[1], "uv.lock.bak")


class TestGitLab:
    TEMPLATE = ROOT / "templates" / "gate.gitlab-ci.yml"

    def script(self) -> str:
        """The commands of the job, in the order in which a runner runs them in one shell."""
        found = re.search(r"\n  script:\n(.*?)\n  artifacts:", self.TEMPLATE.read_text(), re.DOTALL)
        assert found is not None
        items = re.split(r"(?m)^    - ", found[1])[1:]
        return "\n".join(textwrap.dedent(item.removeprefix("|\n")) for item in items)

    def run(self, tmp_path: Path, code: int, notes: str) -> tuple[int, str]:
        """Run the job with a gate that ends with `code` and these notes: status, and the calls of git and curl."""
        report = 'mkdir -p "gate/$COMPAT_RUN_ID"; echo text > "gate/$COMPAT_RUN_ID/gate-comment.md"'
        (tmp_path / "notes.json").write_text(notes)
        log = 'echo "${0##*/} $*" >> "$CALLS"'
        curl = f'{log}\nif [[ "$*" == *per_page* ]]; then cat "$NOTES"; fi'
        given = commands(tmp_path / "bin", git=log, curl=curl, pip="", compat=f"{report}; exit {code}")
        script = re.sub(r"python -m venv \S+ && |/\S+/bin/(?=pip|compat)", "", self.script())
        environ = {
            **given,
            "CALLS": str(tmp_path / "calls"),
            "NOTES": str(tmp_path / "notes.json"),
            "COMPAT_RUN_ID": "gate-9",
            "CI_API_V4_URL": "https://gitlab.example/api/v4",
            "CI_PROJECT_ID": "1",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc",
            "GATE_LOCK": "uv.lock",
            "GATE_ARGUMENTS": "",
            "GATE_TOKEN": "secret",
            "FINETUNE_COMPAT": "git+https://example",
        }
        done = subprocess.run([*SHELL, script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        return done.returncode, (tmp_path / "calls").read_text() + done.stderr

    @pytest.mark.parametrize(
        ("notes", "method", "end"),
        [
            ("[]", "POST", "/notes"),
            (
                '[{"id": 3, "body": "hi"}, {"id": 5, "body": "<!-- finetune-compat gate -->\\n# BLOCK"}]',
                "PUT",
                "/notes/5",
            ),
        ],
    )
    def test_there_is_one_note_and_the_gate_decides(self, tmp_path: Path, notes: str, method: str, end: str) -> None:
        """The first is written, and replaced from then on; the job ends with the code of the gate."""
        status, calls = self.run(tmp_path, 2, notes)
        assert status == 2
        assert "git fetch --quiet --depth=1 origin abc" in calls
        last = calls.splitlines()[-1]
        assert f"--request {method} " in last and last.endswith(f"merge_requests/7{end}")


WORKFLOWS = [*sorted(GATE.parent.glob("*.yml")), ROOT / ".github" / "actions" / "gate" / "action.yml"]

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


@each_workflow
def test_what_a_job_installs_is_locked_with_hashes(path: Path) -> None:
    """A job may write issues and comments: a release of an hour ago must not run in it."""
    text = path.read_text()
    assert re.findall(r"pip\S* install|uvx? |pipx |npm ", text) == []
    assert re.findall(r"(?m)^ *(?:- )?uses: (?!\./)[^\n@]+@(?![0-9a-f]{40} )", text) == []


@pytest.mark.parametrize("path", WORKFLOWS[:-1], ids=lambda path: path.name)
def test_a_job_has_the_permissions_that_it_names(path: Path) -> None:
    """Without the line at the top, a job would have those of the repository."""
    text = path.read_text()
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)
    jobs = text.partition("\njobs:\n")[2]
    assert len(re.findall(r"^ {4}permissions:", jobs, re.MULTILINE)) == len(
        re.findall(r"^ {2}[\w-]+:$", jobs, re.MULTILINE)
    )


def test_the_lock_of_ci_is_of_todays_dependencies() -> None:
    """Every dependency is in it with a hash, and within the bounds: the upper ones are tested with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / ".ci" / "requirements.txt").read_text()
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
    assert len(pins) == len(re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE))
    for line in project["optional-dependencies"]["host"]:
        need = Requirement(line)
        assert {item.operator for item in need.specifier} == {">=", "<"}
        assert need.specifier.contains(pins[need.name])
