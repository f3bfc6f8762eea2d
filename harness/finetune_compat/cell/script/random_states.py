"""The random states that scripts and libraries share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept() -> Iterator[None]:
    """On exit, all random states are as before."""
    state, python = torch.get_rng_state(), random.getstate()
    arrays = np.random.get_state()  # noqa: NPY002 - the generator that scripts and libraries share
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002 - likewise
        torch.set_rng_state(state)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
