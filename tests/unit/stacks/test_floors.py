"""Floors in the source of a library."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.stacks.floors import Floor, floors, unmet
from packaging.version import Version


def installed(folder: Path, text: str) -> Path:
    """A site-packages with one file of Transformers."""
    (folder / "transformers" / "integrations").mkdir(parents=True)
    (folder / "transformers" / "integrations" / "peft.py").write_text(text)
    return folder


class TestFloors:
    def test_both_spellings_are_found_with_their_line(self, tmp_path: Path) -> None:
        """`MIN_X_VERSION` and `X_MIN_VERSION` are those of Transformers 5.24.0."""
        site = installed(tmp_path, 'import os\nMIN_PEFT_VERSION = "0.22.0"\nLIGER_KERNEL_MIN_VERSION = "0.8.2"\n')
        where = "transformers/integrations/peft.py"
        assert floors(site, "transformers") == (
            Floor("transformers", "peft", Version("0.22.0"), f"{where}:2"),
            Floor("transformers", "liger-kernel", Version("0.8.2"), f"{where}:3"),
        )

    def test_what_is_no_floor_is_left_out(self, tmp_path: Path) -> None:
        """A version that is no version, a name that names no package, and a file that is no Python."""
        site = installed(tmp_path, 'MIN_PEFT_VERSION = "soon"\nVERSION = "1.0"\n')
        (site / "transformers" / "old.py").write_text('MIN_PEFT_VERSION = "0.1"\nprint "VERSION"\n')
        assert floors(site, "transformers") == ()


class TestUnmet:
    def test_only_a_package_that_is_there_and_too_old_is_unmet(self) -> None:
        """An optional package that is missing asks nothing of the user."""
        stated = tuple(Floor("transformers", of, Version("0.22.0"), "x.py:1") for of in ("peft", "trl", "gguf"))
        assert unmet({"peft": "0.21.2", "trl": "0.22.0"}, stated) == stated[:1]
