"""What the options of a run can be, and what each of them means. The command line and nox sessions share these texts.

Standard library only: `compat --help` reads this and nothing heavier.
"""

from __future__ import annotations

from enum import StrEnum


class DeviceChoice(StrEnum):
    """What `--device` accepts."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Attention(StrEnum):
    """Attention implementations of Transformers. The first is what users train with."""

    SDPA = "sdpa"
    EAGER = "eager"
    FLASH = "flash_attention_2"


class Instead(StrEnum):
    """What a session can do in place of running the cells. Each is an option of that name."""

    FAULTS = "faults"
    GUARD = "guard"
    CLOSED_FORMS = "closed-forms"
    ADAPTERS = "adapters"
    PIPELINES = "pipelines"
    OVERHEAD = "overhead"
    GUARD_OVERHEAD = "guard-overhead"


HELP = {
    "device": "cpu, cuda or auto. Not yet measured on a GPU: its verdicts and a CPU's were not compared.",
    "attention": "Attention implementation: sdpa, eager or flash_attention_2.",
    "steps": "Training steps of a cell.",
    "limit": "Seconds a cell may take. Default: 120, or 3600 with --model.",
    "memory-limit": "Memory a cell's process may hold, such as 3GiB. Default: 8GiB, or none with --model.",
    "tier": "quick, deep or deep-only.",
    "model": "Real weights in place of the tiny models: a directory or a hub id.",
    "gpus": "At most this many GPUs, each with one worker.",
    "gpu-idle-below": "Use only GPUs of which others hold less than this many GB.",
    "gpu-larger-than": "Use only GPUs with more than this many GB.",
    "fresh": "Also run cells whose observation is cached.",
    "offline": "Contact no registry.",
    "wheelhouse": "Folder of wheels, or an unpacked bundle.",
    "base-python": "Use the torch of that Python.",
    "base-torch": "Use the torch of the Python that runs this command.",
    "cells": "File with the only cells to run, one id a line, in the order to run them.",
    "seeds": "Measure how often the learning test is wrong, with N seeds or the seeds FIRST-LAST.",
    Instead.FAULTS: "Plant faults, and see whether the one check that must name each fault names it.",
    Instead.GUARD: "Run every cell under a `TrainingGuard`, and the guard's own tests.",
    Instead.CLOSED_FORMS: "Compare the closed forms of `compat census` with loaded models.",
    Instead.ADAPTERS: "Save adapters, and compare `compat inspect` with what this stack makes of them.",
    Instead.PIPELINES: "Watch training scripts as users write them.",
    Instead.OVERHEAD: "Measure the cost of the recorder.",
    Instead.GUARD_OVERHEAD: "Measure the cost of the guard.",
}
"""One sentence an option, by its name without dashes."""
