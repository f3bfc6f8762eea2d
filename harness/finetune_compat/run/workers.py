"""Cores that no stack waits for go to the stacks that still run, as further workers."""

from __future__ import annotations

from collections.abc import Mapping


def shared_out(left: Mapping[str, float], given: Mapping[str, int], at_once: int) -> dict[str, int]:
    """Workers of each stack: those it was given before, or one, and more as long as fewer than `at_once` are in use:
    each goes to the stack that has most left for one of its workers.

    Args:
        left: seconds of one core that each stack at work has left.
        given: what was shared out before; nothing is taken back.
        at_once: workers at once.
    """
    found = {stack: given.get(stack, 1) for stack in left}
    while found and sum(found.values()) < at_once:
        found[max(found, key=lambda stack: (left[stack] / found[stack], stack))] += 1
    return found
