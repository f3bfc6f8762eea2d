"""The files without which a user's script cannot be run elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.bisect.local_modules import local_modules


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    files = {
        "tiny.py": "import torch\nimport words\n",
        "words.py": "import tiny\n",
        "unused.py": "",
        "broken.py": "def (\n",
        "own/__init__.py": "from . import rows\n",
        "own/rows.py": "from .deep.more import x\nfrom ..own import other\n",
        "own/other.py": "",
        "own/deep/__init__.py": "",
        "own/deep/more.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("import torch, trl\n", []),
        ("import tiny as t\n", ["tiny.py", "words.py"]),
        ("def main():\n    from words import WORDS\n", ["words.py", "tiny.py"]),
        ("import broken\n", ["broken.py"]),
        (
            "from own import rows\n",
            [f"own/{name}.py" for name in ("__init__", "rows", "deep/__init__", "deep/more", "other")],
        ),
        (
            "import own.deep.more\n",
            [f"own/{name}.py" for name in ("__init__", "deep/__init__", "deep/more", "rows", "other")],
        ),
        ("import train\n", []),
        ("def (\n", []),
    ],
)
def test_modules_beside_the_script(folder: Path, script: str, found: list[str]) -> None:
    (folder / "train.py").write_text(script)
    assert list(local_modules(folder / "train.py")) == found


def test_modules_on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script's own directory comes first."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "train.py").write_text("import tiny\nimport words\n")
    (folder / "scripts" / "words.py").write_text("")
    assert list(local_modules(folder / "scripts" / "train.py")) == ["words.py"]
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert local_modules(folder / "scripts" / "train.py") == {
        "tiny.py": folder / "tiny.py",
        "words.py": folder / "scripts" / "words.py",
    }
