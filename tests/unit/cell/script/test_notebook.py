"""Cells of a notebook as Python: what runs, what is left out, and the lines that stay where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_compat.cell.script.notebook import as_python
from finetune_compat.machine.places import PACKAGE


@pytest.mark.parametrize(
    ("source", "code", "left_out"),
    [
        ("x = 1\n", "x = 1\n", []),
        ("", "", []),
        ("!pip install trl\nx = 1", "pass\nx = 1", ["!pip install trl"]),
        ("!pip install \\\n  trl \\\n  peft\nx = 1", "pass\n\n\nx = 1", ["!pip install trl peft"]),
        ("if x:\n    %pip install trl", "if x:\n    pass", ["%pip install trl"]),
        ("files = !ls\nn = %sql select 1", "files = []\nn = []", ["files = !ls", "n = %sql select 1"]),
        ("?print\ntrl.SFTTrainer??\nx", "pass\npass\nx", ["?print", "trl.SFTTrainer??"]),
        ("%time y()", "y()", []),
        ("if x:\n    loss = %time y(1)", "if x:\n    loss = y(1)", []),
        ("%timeit -n 1 -r 2 y()", "y()", []),
        ("%time", "pass", ["%time"]),
        ("%%time\ny()", "\ny()", []),
        ("\n%%time\n%%capture\ny()", "\n\n\ny()", []),
        ("%%capture --no-stderr out\ny()", "out = __captured__\ny()", []),
        ("%%time\n!ls\ny()", "\npass\ny()", ["!ls"]),
        ("%%bash\nls", "", ["%%bash"]),
        ("%%writefile train.py\nx = 1", "", ["%%writefile train.py"]),
        ("%env A=b c", "__import__(\"os\").environ.update({'A': 'b c'})", []),
        ("%env", "pass", ["%env"]),
        ("  x = 1\n  y = 2", "x = 1\ny = 2", []),
        # A line that looks like a magic inside a statement is Python.
        ("x = (7\n% 3)", "x = (7\n% 3)", []),
        ("x = 7 \\\n% 3", "x = 7 \\\n% 3", []),
        ('x = """\n!pip install trl\n%%time\n"""', 'x = """\n!pip install trl\n%%time\n"""', []),
        ("!ls\nx = (7\n% 3)", "pass\nx = (7\n% 3)", ["!ls"]),
        ("x = a != b\ny = x %2", "x = a != b\ny = x %2", []),
    ],
)
def test_a_cell_becomes_python(source: str, code: str, left_out: list[str]) -> None:
    """The other lines keep their line numbers."""
    assert as_python(source) == (code, left_out)


@pytest.mark.parametrize("source", ["x = (7\n", "def f(:\n!ls", "if x:\n  a\n b\n!ls"])
def test_what_is_no_python_is_left_to_python(source: str) -> None:
    """The error is that of the user's code."""
    code, _ = as_python(source)
    with pytest.raises(SyntaxError):
        compile(code, "cell", "exec")


def test_cells_run_in_one_namespace_beside_the_notebooks_modules(tmp_path: Path) -> None:
    """What `%%capture` captures can be asked for in a later cell."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "mine.py").write_text("N = 5\n")
    sources = [
        "import mine\n!ls \\\n -l\nx = mine.N",
        "%%capture out\nx += 1",
        "out.show()\nprint(x, repr(out.stdout))",
    ]
    cells = [{"cell_type": "markdown", "source": ["# x"]}, *({"cell_type": "code", "source": s} for s in sources)]
    (tmp_path / "beside" / "a.ipynb").write_text(json.dumps({"cells": cells}))
    command = [sys.executable, "-m", "finetune_compat.cell.script.notebook", "beside/a.ipynb"]
    environ = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "6 ''\n"
