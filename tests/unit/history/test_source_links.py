"""Links to the source at the tag of a release."""

from __future__ import annotations

from finetune_compat.history.source_links import source_link


def test_links_to_the_tag_of_a_release() -> None:
    assert source_link("trl/models/utils.py", "0.23.0", 5, 9) == (
        "https://github.com/huggingface/trl/blob/v0.23.0/trl/models/utils.py#L5-L9"
    )
    assert "/blob/v4.57.1/src/transformers/trainer.py" in source_link("transformers/trainer.py", "4.57.1", 1, 2)
    assert "/blob/v2.13.0/" in source_link("torch/nn/functional.py", "2.13.0+cpu", 1, 2)
    assert source_link("mine/train.py", "1.0", 1, 2) == ""
