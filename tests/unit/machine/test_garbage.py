"""The garbage collector, put off and on again."""

from __future__ import annotations

import gc

import pytest
from finetune_compat.machine.garbage import uncollected


def test_what_was_made_meanwhile_is_not_looked_through_at_once() -> None:
    """It is among the old when the collector is on again, and nothing stays set aside from it."""
    with uncollected():
        made = [{} for _ in range(1000)]
    young = {id(each) for generation in (0, 1) for each in gc.get_objects(generation)}
    assert gc.isenabled()
    assert not young & {id(each) for each in made}
    assert gc.get_freeze_count() == 0


def test_what_was_set_aside_before_stays_so() -> None:
    """A cell's process has its whole stack there, and would look through it in every collection."""
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with uncollected():
            pass
        assert gc.get_freeze_count() == before > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_when_the_work_is_done(enabled: bool) -> None:
    """Whoever has switched it off finds it off, also after an error."""

    @uncollected()
    def work() -> None:
        assert not gc.isenabled()
        raise ValueError("at work")

    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ValueError, match="at work"):
            work()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
