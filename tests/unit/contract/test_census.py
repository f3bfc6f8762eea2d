"""The contract of a census between host and stack."""

from __future__ import annotations

import math

from finetune_compat.contract.census import StageCount, StageTable, Weight, WeightKind
from finetune_compat.contract.records import Area, Stage


def test_a_group_of_equal_weights_has_one_name_and_all_their_elements() -> None:
    """28 layers with a matrix of 1536 x 8960."""
    path = "model.layers.[0-27].mlp.down_proj"
    weight = Weight(path, WeightKind.LINEAR, Area.LANGUAGE, (1536, 8960), 28, True, (), None)
    assert weight.leaf == "down_proj"
    assert weight.elements == 28 * 1536 * 8960
    assert Weight("scale", WeightKind.PARAMETER, Area.LANGUAGE, (), 3, False, (), None).leaf == "scale"


def test_a_stage_that_the_model_does_not_reach_has_no_counts() -> None:
    """PEFT may refuse the configuration: then there is no stage `peft`."""
    load = StageCount(Stage.LOAD, 0, 100, 0, math.prod((2, 100)), {}, {}, {})
    table = StageTable("Model", {}, (load,), (), None, None, 0.1)
    assert table.count(Stage.LOAD) is load
    assert table.count(Stage.PEFT) is None
