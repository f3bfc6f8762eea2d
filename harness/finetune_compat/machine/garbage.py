"""Python's garbage collector, put off where it would find nothing. Host and cells."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Put the collector off while objects are made by the hundred thousand of which none is garbage, such as a run's
    records or the modules of a stack. It would look through them again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # what somebody has set aside before shall stay so
                # Makes them old without a look; as young ones they would all be looked through as soon as it is on.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
