"""The advisories: valid, right for every measured release, and read by the scanners that people have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from finetune_compat import cli
from finetune_compat.affected.advisories import ZIP, advisories, advisory_id, write_advisories
from finetune_compat.affected.proofs import read_proofs
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.verdict import Kind
from osv_schema import SCHEMA
from osv_server import hits, serving
from packaging.specifiers import SpecifierSet

LEDGER = load_ledger()
RECORDS = advisories(LEDGER, read_proofs())
FLAGSHIP = "x_FTC-trl-3926"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All advisories, as files."""
    path = tmp_path_factory.mktemp("advisories")
    write_advisories(path, RECORDS)
    return path


def test_every_bug_of_a_release_has_an_advisory() -> None:
    """Traps and limits of machines have none."""
    bugs = [issue for issue in LEDGER.issues if issue.kind is Kind.UPSTREAM]
    assert [record["id"] for record in RECORDS] == [advisory_id(issue) for issue in bugs]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["id"])
def test_an_advisory_is_valid(record: dict[str, Any]) -> None:
    """By the rules of the format, and with its proof."""
    jsonschema.validate(record, SCHEMA)
    proofs = record["database_specific"]["proof"]
    assert proofs
    assert all(
        proof["command"].startswith(("compat run ", "compat windows ")) and len(proof["observation_sha256"]) == 64
        for proof in proofs
    )
    assert all(affected["ecosystem_specific"]["imports"] for affected in record["affected"])


def test_a_scanner_finds_a_bug_in_every_release_of_its_windows() -> None:
    """Whatever the ledger calls affected, some affected package of the advisory has in a range."""
    releases = read_signatures().releases
    records = {record["database_specific"]["issue"]: record for record in RECORDS}
    for issue in LEDGER.issues:
        for shown in issue.ways if issue.id in records else ():
            # Of a way with several packages, at least one has every version of its window in a range.
            assert any(
                all(hits(records[issue.id], name, one) for one in releases.get(name, ()) if one in SpecifierSet(window))
                for name, window in shown.windows.items()
            ), (issue.id, shown.windows)


@pytest.mark.parametrize(
    ("version", "hit"),
    [("0.19.1", False), ("0.20.0", True), ("0.22.2", True), ("0.23.0", True), ("0.23.1", False), ("1.16.0", False)],
)
def test_the_flagship_is_told_for_its_window_alone(version: str, hit: bool) -> None:
    """The edges of the ledger."""
    record = next(record for record in RECORDS if record["id"] == FLAGSHIP)
    assert hits(record, "trl", version) is hit


class TestFiles:
    def test_the_zip_has_every_file_and_is_the_same_each_time(self, directory: Path, tmp_path: Path) -> None:
        """Offline scanners read it."""
        with zipfile.ZipFile(directory / ZIP) as archive:
            assert archive.namelist() == sorted(path.name for path in directory.glob("*.json"))
        write_advisories(tmp_path, RECORDS)
        assert (tmp_path / ZIP).read_bytes() == (directory / ZIP).read_bytes()

    def test_an_advisory_of_an_issue_that_is_gone_is_removed(self, tmp_path: Path) -> None:
        """The command is run again after each change of the ledger."""
        write_advisories(tmp_path, RECORDS)
        write_advisories(tmp_path, RECORDS[1:])
        assert not (tmp_path / f"{RECORDS[0]['id']}.json").exists()

    def test_a_directory_with_other_files_is_refused(self, tmp_path: Path) -> None:
        """Nothing is written."""
        (tmp_path / "package.json").write_text("{}")
        with pytest.raises(CompatError, match=r"has other JSON files, such as package\.json"):
            write_advisories(tmp_path, RECORDS)
        assert [path.name for path in tmp_path.iterdir()] == ["package.json"]

    def test_the_command_prints_what_it_wrote(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """One path a line."""
        with pytest.raises(SystemExit):
            cli.main(["advisories", str(tmp_path / "new")])
        assert all(Path(line).is_file() for line in capsys.readouterr().out.splitlines())


# ------------------------------------------------------------------------------------------------------------- scanners

LOCK = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "trl"
version = "{version}"
source = {{ registry = "https://pypi.org/simple" }}
sdist = {{ url = "https://files.pythonhosted.org/packages/aa/trl-{version}.tar.gz", hash = "sha256:{zero}", size = 1 }}

[[package]]
name = "pipeline"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "trl" }}]

[package.metadata]
requires-dist = [{{ name = "trl", specifier = "=={version}" }}]
"""
PROJECT = '[project]\nname = "pipeline"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["trl=={}"]\n'


def tool(name: str) -> str:
    """The scanner beside this Python, else on the path. Skips with the reason if there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here; `nox -s tests` installs it")
    return found


@pytest.mark.parametrize(("version", "hit"), [("0.22.2", True), ("1.16.0", False)])
def test_pip_audit_reports_the_flagship(directory: Path, tmp_path: Path, version: str, hit: bool) -> None:
    """The stock scanner, with our advisories as its service."""
    (tmp_path / "requirements.txt").write_text(f"trl=={version}\n")
    with serving(directory) as url:
        command = [tool("pip-audit"), "-s", "osv", "--osv-url", f"{url}/v1/query", "--disable-pip", "--no-deps"]
        options = ["-r", str(tmp_path / "requirements.txt"), "-f", "json", "--progress-spinner", "off"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    vulnerable = json.loads(done.stdout)["dependencies"][0]["vulns"]
    assert (FLAGSHIP in [one["id"] for one in vulnerable]) is hit
    if hit:
        assert "0.23.1" in next(one["fix_versions"] for one in vulnerable if one["id"] == FLAGSHIP)


@pytest.mark.parametrize(("version", "hit"), [("0.22.2", True), ("1.16.0", False)])
def test_uv_audit_reports_the_flagship(directory: Path, tmp_path: Path, version: str, hit: bool) -> None:
    """The stock scanner, with our advisories as its service."""
    (tmp_path / "uv.lock").write_text(LOCK.format(version=version, zero="0" * 64))
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(version))
    with serving(directory) as url:
        command = [tool("uv"), "audit", "--frozen", "--service-url", url, "--output-format", "json"]
        env = {**os.environ, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert (FLAGSHIP in done.stdout) is hit, done.stderr
