"""Measured releases: the newest of each package, by flow and tier."""

from __future__ import annotations

import builders as b
import deep_builders as d
from finetune_compat.evidence.measured import measured_of


def test_the_newest_release_counts_by_version_and_not_by_text() -> None:
    """0.22 is newer than 0.9."""
    seen = [b.healthy(versions=b.on_trl(trl)) for trl in ("0.9.6", "0.22.2", "0.10.1")]
    found = measured_of(seen)
    assert found["quick"]["sft-peft-model"]["trl"] == "0.22.2"
    assert found["deep"] == {}


def test_the_deep_tier_has_releases_of_its_own() -> None:
    """A check of the deep tier is measured only where the deep tier ran. Its cells count for the quick tier too."""
    deep = d.deep()
    found = measured_of([deep, b.healthy(deep.flow, versions=b.on_trl("1.16.0"))])
    assert found["quick"][deep.flow]["trl"] == "1.16.0"
    assert found["deep"][deep.flow]["trl"] == deep.stack.resolved["trl"]
