"""A link leads to the line in the release that was installed; what has no known repository has no link."""

from __future__ import annotations

import pytest
from finetune_compat.atlas.sources import source
from finetune_compat.contract.records import Frame

VERSIONS = {"trl": "0.22.2", "transformers": "4.56.1", "bitsandbytes": "0.47.0", "torch": "2.13.0+cpu"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("trl/models/utils.py", "https://github.com/huggingface/trl/blob/v0.22.2/trl/models/utils.py#L7"),
        (
            "transformers/trainer.py",
            "https://github.com/huggingface/transformers/blob/v4.56.1/src/transformers/trainer.py#L7",
        ),
        (
            "bitsandbytes/nn/modules.py",
            "https://github.com/bitsandbytes-foundation/bitsandbytes/blob/0.47.0/bitsandbytes/nn/modules.py#L7",
        ),
        ("torch/autograd/graph.py", "https://github.com/pytorch/pytorch/blob/v2.13.0/torch/autograd/graph.py#L7"),
    ],
)
def test_a_link_has_the_tag_of_the_release(file: str, expected: str) -> None:
    """Packages differ in the folder of their sources and in the names of their tags. A build is no part of a tag."""
    assert source(Frame(file, 7, "f", "x"), VERSIONS) == expected


@pytest.mark.parametrize("file", ["pydantic/main.py", "peft/peft_model.py", "trl/../../x.py", ""])
def test_no_link_is_guessed(file: str) -> None:
    """For another package, one without a version, or a path that leaves its package."""
    assert source(Frame(file, 7, "f", "x"), VERSIONS) is None
