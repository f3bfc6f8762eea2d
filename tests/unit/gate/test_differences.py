"""Facts of a cell that differ between two sides."""

from __future__ import annotations

import builders as b
from finetune_compat.contract.records import Stage
from finetune_compat.gate.decision import Aspect, Difference
from finetune_compat.gate.differences import differences


class TestDifferences:
    def test_the_same_has_none(self) -> None:
        """A cell that one side did not observe has no difference either."""
        seen = b.healthy()
        assert differences(seen, seen) == differences(seen, None) == differences(None, seen) == ()

    def test_counts_dtypes_checkpointing_modules_and_loss(self) -> None:
        """They are listed by stage, with the old and the new value."""
        recorded = {"checkpointing": "reentrant", "adapted": {"q_proj": 2}}
        one = b.at_stage(b.healthy(), Stage.TRAINER, **recorded)
        other = b.at_stage(
            b.losses(b.healthy(), 5.0, 4.0),
            Stage.TRAINER,
            trainable=0,
            adapter_dtypes=("bfloat16",),
            checkpointing="not reentrant",
            adapted={"q_proj": 2, "qkv": 2},
        )
        assert differences(one, other) == (
            Difference(Aspect.TRAINABLE, Stage.TRAINER, "16,384", "0"),
            Difference(Aspect.ADAPTER_DTYPES, Stage.TRAINER, "float32", "bfloat16"),
            Difference(Aspect.CHECKPOINTING, Stage.TRAINER, "reentrant", "not reentrant"),
            Difference(Aspect.MODULES, Stage.TRAINER, "q_proj x2", "q_proj x2 qkv x2"),
            Difference(Aspect.LOSS, None, "4.892100", "5.000000"),
        )

    def test_what_an_older_harness_did_not_record_is_no_difference(self) -> None:
        """The value is unknown."""
        one = b.at_stage(b.healthy(), Stage.TRAINER, checkpointing="off", adapted={"q_proj": 2})
        assert differences(b.healthy(), one) == ()

    def test_a_loss_that_is_no_number_either_time_is_no_difference(self) -> None:
        """NaN is not equal to itself."""
        seen = b.masked_labels(b.healthy("rft-labels-masked"))
        assert differences(seen, seen) == ()
