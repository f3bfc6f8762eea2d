"""Notebooks and scripts that were written for a machine with a GPU, watched on this stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

GPU = """
print(torch.cuda.get_device_properties(0).name, torch.cuda.get_device_capability(), torch.cuda.max_memory_reserved())
torch.cuda.set_device(torch.cuda.current_device())
torch.cuda.synchronize()
torch.cuda.empty_cache()
assert torch.tensor([1], device=torch.device("cuda")).cuda().to(0).device.type == "cpu"
with torch.autocast("cuda"), torch.device("meta"):
    assert torch.zeros(1).is_meta
"""

LOGIN = """
from huggingface_hub import HfApi, login, notebook_login
notebook_login()
login(token="nobody")
HfApi().create_repo("me/model")
"""


def notebook(directory: Path, cells: Sequence[str]) -> str:
    """Write a notebook of these code cells."""
    content = {"nbformat": 4, "cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    (directory / "train.ipynb").write_text(json.dumps(content), encoding="utf-8")
    return "train.ipynb"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_notebook_for_a_gpu_trains_on_the_cpu(watch: Any, script: Any, model: Path, tmp_path: Path) -> None:
    """Every cell runs or is said to be left out, and every change for want of a GPU is said."""
    plain = ("quantization_config=quantization, ", ""), ("gradient_checkpointing=True", "gradient_checkpointing=False")
    text = (tmp_path / script(*plain)).read_text(encoding="utf-8")
    before, train, _ = text.partition("trainer.train()")
    argv = f"import sys\nsys.argv = ['train.py', {str(model)!r}]\n"
    cells = ["!pip install -q \\\n  trl \\\n  peft", LOGIN, argv + before, "import torch\n" + GPU]
    cells += [f"%%time\n%%capture out\n{train}", "out.show()", "%%bash\nnvidia-smi"]
    seen = watch(notebook(tmp_path, cells))
    assert (seen.code, seen.verdicts[0]["outcome"]) == (0, "pass")
    changed, left_out = "\n".join(seen.pipeline["changed"]), "\n".join(seen.pipeline["unseen"])
    for asked in ("notebook_login()", "login()", "create_repo()", "get_device_properties()", "torch.tensor(device="):
        assert asked in changed
    assert "cell 1: left out: !pip install -q trl peft" in left_out
    assert "cell 7: left out: %%bash" in left_out


HANDED = Path(__file__).parents[1] / "exam" / "handed" / "notebooks"


@pytest.mark.skipif(Version(version("trl")) < Version("1.0"), reason="they are written for TRL 1.0 and later")
@pytest.mark.parametrize("name", [path.name for path in sorted(HANDED.glob("*.ipynb"))])
def test_a_notebook_of_the_exam_is_healthy(watch: Any, name: str) -> None:
    """Each was answered wrongly once."""
    seen = watch(str(HANDED / name))
    assert (seen.code, seen.verdicts[0]["outcome"]) == (0, "pass")
