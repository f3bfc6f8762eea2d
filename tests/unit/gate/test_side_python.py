"""The Python that a side runs on."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.gate.asked import Wanted
from finetune_compat.gate.inputs import read_side
from side_builders import MATRIX, environment, refusal, wanted, written

FOR_PYTHONS = """version = 1
requires-python = ">=3.11"

[[package]]
name = "trl"
version = "0.22.2"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version < '3.12'"]

[[package]]
name = "trl"
version = "0.23.1"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_full_version >= '3.12.4' and implementation_name == 'cpython'"]
"""
"""A uv.lock with a release for each Python; the other files say the same."""

PYLOCK_FOR_PYTHONS = "\n".join(
    (
        'lock-version = "1.0"\ncreated-by = "test"\nrequires-python = ">=3.11"\ndefault-groups = ["train"]',
        *(
            f'[[packages]]\nname = "{name}"\nversion = "{version}"\nmarker = "{marker}"\n'
            f'wheels = [{{ name = "{name}-{version}-py3-none-any.whl", path = "w", hashes = {{ sha256 = "00" }} }}]'
            for name, version, marker in (
                ("trl", "0.22.2", "python_version < '3.12'"),
                ("trl", "0.23.1", "python_version >= '3.12' and 'train' in dependency_groups"),
                ("peft", "0.17.0", "'dev' in dependency_groups or 'dev' in extras"),
            )
        ),
    )
)


class TestPython:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("uv.lock", FOR_PYTHONS),
            ("pylock.toml", PYLOCK_FOR_PYTHONS),
            ("requirements.txt", "trl==0.22.2; python_version<'3.12'\ntrl==0.23.1; python_version>='3.12'\n"),
        ],
    )
    @pytest.mark.parametrize(
        ("asked", "python", "pin"), [(None, "3.11", "0.22.2"), ("3.11", "3.11", "0.22.2"), ("3.12", "3.12", "0.23.1")]
    )
    def test_a_file_is_read_for_the_python_it_runs_on(
        self, tmp_path: Path, name: str, text: str, asked: str | None, python: str, pin: str
    ) -> None:
        """The Python that runs the gate does not matter."""
        found = read_side([written(tmp_path, name, text)], "--to", MATRIX, asked)
        assert isinstance(found, Wanted)
        assert found.python == python
        assert [str(item).partition(";")[0] for item in found.requirements] == [f"trl=={pin}"]

    def test_the_first_that_a_side_takes(self, tmp_path: Path) -> None:
        """It is the first of the matrix, unless one is requested."""
        newer = FOR_PYTHONS.replace(">=3.11", ">=3.12")
        found = wanted(written(tmp_path, "uv.lock", newer))
        assert (found.python, list(map(str, found.requirements))) == ("3.12", ["trl==0.23.1"])
        assert wanted("trl==0.22.1").python == MATRIX.pythons[0]

    @pytest.mark.parametrize(("takes", "asked"), [("<3.11", None), (">=3.12", "3.11")])
    def test_none_that_it_takes(self, tmp_path: Path, takes: str, asked: str | None) -> None:
        """The message lists the available ones."""
        path = written(tmp_path, "uv.lock", FOR_PYTHONS.replace(">=3.11", takes))
        with pytest.raises(CompatError) as raised:
            read_side([path], "--to", MATRIX, asked)
        assert str(raised.value) == (
            f"{path}: it needs Python {takes}\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these with --python, or give a file for one of them."
        )

    @pytest.mark.parametrize("text", ["trl==0.22.1", "requirements.txt"])
    def test_one_that_nothing_runs_on(self, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was requested, and no side needs it."""
        monkeypatch.chdir(tmp_path)
        written(tmp_path, "requirements.txt", "trl==0.22.2\n")
        with pytest.raises(CompatError) as raised:
            read_side([text], "--to", MATRIX, "3.9")
        assert str(raised.value) == (
            "--python: there are no locks for Python 3.9\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these, or leave --python out."
        )

    def test_an_interpreter_that_nothing_runs_on(self, tmp_path: Path) -> None:
        """This also holds for files, unless another Python is requested."""
        python = environment(tmp_path, "3.10", trl="0.22.2")
        assert refusal(str(python)) == (
            f"{python}: it needs Python 3.10\nThe matrix runs on 3.11, 3.12.\n"
            "Name one of these with --python, or give a file for one of them."
        )
        found = read_side([str(python)], "--to", MATRIX, "3.11")
        assert isinstance(found, Wanted) and found.python == "3.11"
