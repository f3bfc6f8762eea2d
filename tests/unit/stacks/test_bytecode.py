"""Bytecode that environments share, with a real Python that decides whether to use it."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from finetune_compat.stacks import bytecode

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SOURCES = {
    "pack/__init__.py": "from pack import deep\n",
    "pack/deep.py": "def where(): return where.__code__.co_filename\n",
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def site_packages(root: Path, sources: dict[str, str], *, linked_to: Path | None = None) -> Path:
    """Site-packages with one package, as uv installs it: sources linked to where they lie unpacked."""
    site = root / "lib" / PYTHON / "site-packages"
    lines = ["pack-1.0.dist-info/RECORD,,", f"../../../bin/pack.py,sha256={43 * 'x'},9"]
    for name, text in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        if linked_to is None:
            (site / name).write_text(text, encoding="utf-8")
        else:
            os.link(linked_to / name, site / name)
        digest = urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f"{name},sha256={digest},{len(text)}")
    (site / "pack-1.0.dist-info").mkdir()
    (site / "pack-1.0.dist-info" / "RECORD").write_text("\n".join(lines), encoding="utf-8")
    return site


def where(site: Path) -> str:
    """Import the package, and say where its function is from."""
    code = "from pack import deep; print(deep.where())"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(
        command, env={**environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def compiled(site: Path) -> dict[str, int]:
    """Bytecode by name, and which file it is."""
    return {str(path.relative_to(site)): path.stat().st_ino for path in site.rglob("*.pyc")}


def test_what_one_environment_compiled_another_uses(tmp_path: Path, cache: Path) -> None:
    """It is one file, Python does not write it again, and tracebacks name the environment's own source."""
    one = site_packages(tmp_path / "one", SOURCES)
    where(one)
    bytecode.keep(one, cache)
    other = site_packages(tmp_path / "other", SOURCES, linked_to=one)
    bytecode.lend(other, cache)
    assert compiled(other) == compiled(one) and len(compiled(one)) == len(SOURCES)
    assert where(other) == str(other / "pack" / "deep.py")
    assert compiled(other) == compiled(one)


def test_what_is_compiled_later_is_kept_too(tmp_path: Path, cache: Path) -> None:
    """A second look adds what the first had not."""
    one = site_packages(tmp_path / "one", SOURCES)
    bytecode.keep(one, cache)
    assert not cache.exists()
    where(one)
    for _ in range(2):
        bytecode.keep(one, cache)
        assert len(list(cache.rglob("*.pyc"))) == len(SOURCES)


def test_another_release_uses_what_it_has_in_common(tmp_path: Path, cache: Path) -> None:
    """Its files have times of their own: it gets a copy that Python trusts, and compiles what differs."""
    one = site_packages(tmp_path / "one", SOURCES)
    where(one)
    bytecode.keep(one, cache)
    shared = compiled(one)
    other = site_packages(tmp_path / "other", {**SOURCES, "pack/__init__.py": "from pack import deep as deep\n"})
    for name in SOURCES:
        os.utime(other / name, (1.0, 1.0))
    bytecode.lend(other, cache)
    lent = compiled(other)
    assert len(lent) == 1 and not set(lent.values()) & set(shared.values())
    assert where(other) == str(other / "pack" / "deep.py")
    assert compiled(other).items() > lent.items() and len(compiled(other)) == len(SOURCES)
    assert compiled(one) == shared and where(one) == str(one / "pack" / "deep.py")


def test_a_source_that_was_edited_is_given_nothing(tmp_path: Path, cache: Path) -> None:
    """Its record still has the hash of the one that was installed. It has the other's length here, too."""
    one = site_packages(tmp_path / "one", SOURCES)
    where(one)
    bytecode.keep(one, cache)
    other = site_packages(tmp_path / "other", SOURCES)
    edited = other / "pack" / "deep.py"
    edited.write_text(SOURCES["pack/deep.py"].replace("co_filename", "co_qualname"), encoding="utf-8")
    os.utime(edited, (1.0, 1.0))
    bytecode.lend(other, cache)
    assert not [name for name in compiled(other) if "deep" in name]
    assert where(other) == "where"


def test_bytecode_of_a_source_that_was_edited_is_not_kept(tmp_path: Path, cache: Path) -> None:
    """Whoever has the source that was installed would run the edit."""
    one = site_packages(tmp_path / "one", SOURCES)
    (one / "pack" / "deep.py").write_text("def where(): return 'edited'\n", encoding="utf-8")
    assert where(one) == "edited"
    bytecode.keep(one, cache)
    other = site_packages(tmp_path / "other", SOURCES)
    bytecode.lend(other, cache)
    assert where(other) == str(other / "pack" / "deep.py")


def test_bytecode_from_before_an_edit_was_taken_back_is_not_kept(tmp_path: Path, cache: Path) -> None:
    """The source is again as it was installed; what lies beside it is not of it."""
    one = site_packages(tmp_path / "one", SOURCES)
    source = one / "pack" / "deep.py"
    source.write_text("def where(): return 'edited'\n", encoding="utf-8")
    where(one)
    source.write_text(SOURCES["pack/deep.py"], encoding="utf-8")
    bytecode.keep(one, cache)
    assert len(list(cache.rglob("*.pyc"))) == 1


def test_without_links_nothing_is_shared_and_nothing_fails(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments may lie on another file system."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    one = site_packages(tmp_path / "one", SOURCES)
    where(one)
    monkeypatch.setattr(os, "link", refuse)
    bytecode.keep(one, cache)
    bytecode.lend(one, cache)
    assert not list(cache.rglob("*.pyc"))
