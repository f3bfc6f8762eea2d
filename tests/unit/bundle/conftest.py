"""Fixtures of the tests of bundles."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_workshop import HEADER, Workshop, git, write
from finetune_compat.bundle import command
from finetune_compat.stacks.locks import read_lock
from wheels import make_wheel


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """uv and pip find only the wheels of the registry."""
    made = Workshop(tmp_path)
    digest = make_wheel(made.registry, "trl", "0.22.2")
    make_wheel(made.registry, "host-tool", "1.0")
    make_wheel(made.registry, "unneeded", "1.0")
    write(made.lock, f"{HEADER}# packages: 1\ntrl==0.22.2 \\\n    --hash=sha256:{digest}\n")
    write(made.lock.with_name("trl9.9-py311.txt"), "a lock of another stack")
    write(
        made.checkout / "pyproject.toml",
        '[project]\nname = "x"\nversion = "1"\n[project.optional-dependencies]\nhost = ["host-tool"]\n',
    )
    write(
        made.checkout / "harness" / "finetune_compat" / "__main__.py",
        "import host_tool, sys\nprint(host_tool.__version__, sys.argv[1:])\n",
    )
    write(made.checkout / "harness" / "large.py", "#" * 30_000)
    write(made.checkout / "tests" / "large.py", "#" * 30_000)
    write(made.checkout / "reports" / "baseline" / "observations.jsonl", "large")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        git(made.checkout, *arguments)
    write(made.checkout / "notes.txt", "not tracked")
    (tmp_path / "index").mkdir()
    for name, value in {
        "UV_DEFAULT_INDEX": (tmp_path / "index").as_uri(),
        "UV_FIND_LINKS": str(made.registry),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(made.registry),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command, "locked", lambda _: read_lock(made.lock))
    return made
