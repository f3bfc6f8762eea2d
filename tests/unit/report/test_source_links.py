"""Frames are linked to the source of the release that ran."""

from __future__ import annotations

import pytest
from finetune_compat.contract.records import Frame
from finetune_compat.report.html import source

VERSIONS = {"trl": "0.22.2", "peft": "0.17.1", "transformers": "5.0.0rc1", "torch": "2.13.0+cpu", "datasets": "4.0.0"}


@pytest.mark.parametrize(
    ("file", "url"),
    [
        ("trl/trainer/sft_trainer.py", "https://github.com/huggingface/trl/blob/v0.22.2/trl/trainer/sft_trainer.py#L7"),
        ("peft/utils/other.py", "https://github.com/huggingface/peft/blob/v0.17.1/src/peft/utils/other.py#L7"),
        (
            "transformers/trainer.py",
            "https://github.com/huggingface/transformers/blob/v5.0.0rc1/src/transformers/trainer.py#L7",
        ),
        ("torch/autograd/graph.py", "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/autograd/graph.py#L7"),
        ("accelerate/accelerator.py", ""),
        ("train.py", ""),
        ("trl/../../../evil/a.py", ""),
        ("trl/a.py?<script>", ""),
    ],
)
def test_a_frame_is_linked_at_the_tag_of_its_release(file: str, url: str) -> None:
    """Files of the script, of other packages and of unknown versions are not."""
    assert source(Frame(file, 7, "f", "f()"), VERSIONS) == url


@pytest.mark.parametrize("version", ["0.23.0.dev0", "main", "1.0/../../x", ""])
def test_a_version_without_a_tag_has_no_link(version: str) -> None:
    """A development version has no tag."""
    assert source(Frame("trl/a.py", 7, "f", "f()"), {"trl": version}) == ""
