"""What all unit tests share."""

from __future__ import annotations

from hypothesis import settings

# No deadline: how long one example takes says something about the machine, and these tests share it with cells.
settings.register_profile("host", deadline=None)
settings.load_profile("host")
