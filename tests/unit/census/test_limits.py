"""A config from elsewhere builds nothing without end, and brings no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.census.families import families, find
from finetune_compat.census.limits import MOST_MODULES, check_config
from finetune_compat.contract.errors import CompatError, ExitCode


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"num_hidden_layers": 2_001}, "num_hidden_layers is 2,001, and at most 2,000 are counted"),
        ({"num_hidden_layers": 10**4000}, "num_hidden_layers is larger than 10^15, and at most 2,000 are counted"),
        ({"n_layer": 10**6}, "n_layer is 1,000,000, and at most 2,000 are counted"),
        ({"text_config": {"num_local_experts": 10**6}}, "text_config.num_local_experts is 1,000,000, and "),
        ({"vision_config": {"depth": 10**6}}, "vision_config.depth is 1,000,000, and "),
        ({"depths": [2, 10**6]}, "depths is 1,000,000, and "),
        ({"attn_implementation": "evil/kernel"}, "attn_implementation names code of a repository: 'evil/kernel'"),
        ({"text_config": {"_attn_implementation": "a/b@main:f"}}, "text_config._attn_implementation names code of "),
        ({"_attn_implementation_internal": "a/b"}, "_attn_implementation_internal names code of a repository: 'a/b'"),
        ({"auto_map": {"AutoModel": "a/b--x.Y"}}, None),
    ],
)
def test_a_config_without_end_is_refused(tmp_path: Path, config: dict[str, Any], problem: str | None) -> None:
    """Before a stack sees it. `auto_map` is ignored by Transformers, which is not told to trust it."""
    file = tmp_path / "config.json"
    if problem is None:
        check_config(config, file)
        return
    with pytest.raises(CompatError) as raised:
        check_config(config, file)
    assert raised.value.what.startswith(problem) and raised.value.exit_code is ExitCode.BAD_INPUT


def test_a_file_is_checked_when_it_is_read(tmp_path: Path) -> None:
    """Also for `compat inspect --base`."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "num_hidden_layers": MOST_MODULES + 1}))
    with pytest.raises(CompatError, match="at most 2,000 are counted"):
        find(str(tmp_path / "config.json"))


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_every_family_is_within_the_limits(family: Any) -> None:
    """The limits are for mistakes and malice."""
    check_config(family.config, Path("config.json"))
