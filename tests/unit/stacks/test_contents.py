"""Every way in which files of an environment can differ from their wheels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.machine.wheel_records import digest
from finetune_compat.stacks import contents
from finetune_compat.stacks.contents import Changed, changed

FILES = {
    "peft/__init__.py": "",
    "peft/utils/other.py": "def prepare(model):\n    return model\n",
    "peft/kernel.so": "library",
    "peft/data.json": "{}",
    "peft/a name, with a comma.py": "",
}
OURS = frozenset({"compat-lent-torch.pth"})


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with one installed package, as long ago as installers' files are."""
    folder = tmp_path / "site-packages"
    rows = []
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        shown = f'"{name}"' if "," in name else name
        rows.append(f"{shown},sha256={digest(path)},{path.stat().st_size}")
    info = folder / "peft-0.21.2.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("\n".join([*rows, "peft-0.21.2.dist-info/RECORD,,", "../../../bin/x,sha256=x,1", ""]))
    (folder / "_virtualenv.py").write_text("# every environment has it")
    (folder / "compat-lent-torch.pth").write_text("/lent")
    (folder / "peft" / "__pycache__").mkdir()
    (folder / "peft" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"bytecode")
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return folder


def found(site: Path) -> Changed:
    """What differs, of packages installed in 2020."""
    return changed(site, site.parent / "contents.txt", 1_577_836_800.0, OURS)


def keeping_its_time(site: Path, name: str, text: str) -> None:
    """Change a file in place, as `patch` with a restored time does: its size is the same too."""
    path = site / name
    at = path.stat()
    assert len(text) == at.st_size
    path.write_text(text)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def test_what_was_installed_is_read_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only sizes and times are compared."""
    assert not found(site)
    monkeypatch.setattr(contents, "digest", None)
    assert not found(site)


@pytest.mark.parametrize(
    ("change", "kind", "name", "packages"),
    [
        (lambda site: (site / "peft/utils/other.py").write_text("edited"), "edited", "peft/utils/other.py", ("peft",)),
        (
            lambda site: keeping_its_time(site, "peft/utils/other.py", FILES["peft/utils/other.py"][:-1] + " "),
            "edited",
            "peft/utils/other.py",
            ("peft",),
        ),
        (lambda site: (site / "peft/kernel.so").write_text("LIBRARY"), "edited", "peft/kernel.so", ("peft",)),
        (lambda site: (site / "peft/data.json").write_text("{ }"), "edited", "peft/data.json", ("peft",)),
        (lambda site: (site / "peft/utils/other.py").unlink(), "missing", "peft/utils/other.py", ("peft",)),
        (lambda site: (site / "x.pth").write_text("import os"), "foreign", "x.pth", ()),
        (lambda site: (site / "sitecustomize.py").touch(), "foreign", "sitecustomize.py", ()),
        (lambda site: (site / "random.py").touch(), "foreign", "random.py", ()),
        (lambda site: (site / "peft" / "new.so").touch(), "foreign", "peft/new.so", ()),
        (lambda site: (site / "json").symlink_to(site / "peft"), "foreign", "json", ()),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_every_change_is_found(
    site: Path, change: Callable[[Path], object], kind: str, name: str, packages: tuple[str, ...], before: bool
) -> None:
    """Whether the environment was compared before or not. It is found again until it is mended."""
    if before:
        assert not found(site)
    change(site)
    for _ in range(2):
        assert getattr(found(site), kind) == (name,)
        assert found(site).packages == packages


def test_an_edit_through_a_hard_link_is_found(site: Path) -> None:
    """uv links the files of environments to its cache."""
    assert not found(site)
    os.link(site / "peft/utils/other.py", site.parent / "cached.py")
    assert not found(site)
    (site.parent / "cached.py").write_text("edited in the cache")
    assert found(site).edited == ("peft/utils/other.py",)


def test_files_without_code_need_no_package(site: Path) -> None:
    """Licences, bytecode and a broken link run nothing."""
    (site / "LICENSE").touch()
    (site / "dangling").symlink_to("nowhere")
    assert not found(site)


def test_a_large_environment_takes_a_fraction_of_a_second(tmp_path: Path) -> None:
    """An environment of a stack has 24,000 files. Counted in CPU time: the machine may be busy."""
    rows = []
    for number in range(4_000):
        path = tmp_path / "site" / f"p{number % 200}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        rows.append(f"p{number % 200}/{number}.py,,0")
    (tmp_path / "site" / "p-1.dist-info").mkdir()
    (tmp_path / "site" / "p-1.dist-info" / "RECORD").write_text("\n".join([*rows, "p-1.dist-info/RECORD,,"]))
    assert not changed(tmp_path / "site", tmp_path / "memory", 0.0)
    begin = time.process_time()
    assert not changed(tmp_path / "site", tmp_path / "memory", 0.0)
    assert time.process_time() - begin < 0.4 * 4_000 / 24_000 * 3  # three times the measured cost
