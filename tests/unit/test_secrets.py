"""Secrets that are planted wherever a run takes them in are in no file that it leaves."""

from __future__ import annotations

import gzip
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import builders as b
import pytest
from finetune_compat.cell import runner
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import DeviceKind, Stage, to_json
from finetune_compat.report import publish
from finetune_compat.results.run_files import RowState, StackRow, write_row
from finetune_compat.run import nox_run, stack_run
from finetune_compat.store import archive
from finetune_compat.store.store import Store
from store_builders import planned, seen

SECRETS = {
    "HF_TOKEN": "hf_abcDEF0123456789abcDEF",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCY",
    "COMPAT_TEST_PASSWORD": "correct-horse-battery",
}
IN_URL, IN_OPTION = "s3cretInTheUrl", "s3cretOfTheScript"
TOLD = (
    f"401 for https://me:{IN_URL}@index.example/simple, git+https://{IN_URL}@host.example/x; "
    f"python train.py --hub_token {IN_OPTION}; token={SECRETS['HF_TOKEN']}; {SECRETS['AWS_SECRET_ACCESS_KEY']} "
    f"{SECRETS['COMPAT_TEST_PASSWORD']}"
)
"""What a library, a resolver or a hub may say about them."""


def test_no_file_of_a_run_holds_a_planted_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, observations, logs, pages and the archive, byte by byte."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    run = tmp_path / "runs" / "one"
    error = runner.failure(RuntimeError(TOLD), Stage.TRAINER)
    assert "401 for https://REDACTED@index.example" in error.message
    found = replace(b.failed(seen(), "RuntimeError", "x", Stage.TRAINER), error=error)
    b.stored(run, [b.ran(found)], found)
    write_row(run, StackRow("trl0.23-py311", RowState.UNINSTALLABLE, TOLD, ()))
    # Of what another process prints, only forms and names are known, and the values in its environment are not there:
    # a cell gets no token.
    plan = replace(planned(run), device=DeviceKind.CPU)
    code = "import os, sys; print(sys.argv[1], *(os.environ.get(name) for name in sys.argv[2:]))"
    told = TOLD.partition(SECRETS["AWS_SECRET_ACCESS_KEY"])[0]
    command = [sys.executable, "-c", code, told, *SECRETS]
    assert stack_run.run_process(command, plan, (), run / "logs" / "trl0.24-py311.txt") == 0
    assert (run / "logs" / "trl0.24-py311.txt").read_text().endswith("None None None\n")
    (run / "nox.log").write_text(told)
    nox_run._redact_file(run / "nox.log")
    publish(run, load_ledger())
    archive.export(run, Store(tmp_path / "store"), tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "summary.md", "junit.xml", "observations.jsonl", "verdicts.jsonl"} <= {p.name for p in left}
    for path in left:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        leaked = [text for text in (*SECRETS.values(), IN_URL, IN_OPTION) if text.encode() in content]
        assert leaked == [], path
    assert to_json(found).count("REDACTED") >= 4
