"""The process that imports the modules of a stack once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from finetune_compat.cell.forking import server


def test_modules_are_imported_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack's import may depend on what was imported before."""
    (tmp_path / "first_of_two.py").write_text("")
    (tmp_path / "second_of_two.py").write_text("import sys; assert 'first_of_two' in sys.modules")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(server, "_threads", lambda: ["python"])
    assert server.problem_with(["first_of_two", "second_of_two"]) == ""


def test_a_module_that_cannot_be_imported_is_met_by_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They record the error of a first import, which may differ from that of a second one."""
    (tmp_path / "broken_module.py").write_text("raise ValueError('broken')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert server.problem_with(["broken_module"]) == "broken_module cannot be imported: ValueError"


def test_a_process_with_threads_does_not_fork() -> None:
    """A forked process would lack them, and may wait for a lock that one of them holds."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert server.problem_with([]).startswith("it has further threads: ")
    finally:
        over.set()
        thread.join()
