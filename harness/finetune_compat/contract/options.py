"""Values and help texts of the options of a run. The command line and nox sessions share these texts.

Standard library only, so that `compat --help` starts fast.
"""

from __future__ import annotations

from enum import StrEnum


class DeviceChoice(StrEnum):
    """What `--device` accepts."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class EngineChoice(StrEnum):
    """What `--engine` accepts: this machine, or a Ray cluster."""

    NOX = "nox"
    RAY = "ray"


class Attention(StrEnum):
    """Attention implementations of Transformers. The first is what users train with."""

    SDPA = "sdpa"
    EAGER = "eager"
    FLASH = "flash_attention_2"


class Instead(StrEnum):
    """What a session can do instead of running the cells. Each value is the name of an option."""

    FAULTS = "faults"
    GUARD = "guard"
    CLOSED_FORMS = "closed-forms"
    ADAPTERS = "adapters"
    PIPELINES = "pipelines"
    BRANCHES = "branches"
    OVERHEAD = "overhead"
    GUARD_OVERHEAD = "guard-overhead"


HELP = {
    "device": "cpu, cuda or auto. Not yet measured on a GPU: GPU verdicts were not compared with CPU verdicts.",
    "attention": "Attention implementation: sdpa, eager or flash_attention_2.",
    "steps": "Training steps of a cell.",
    "limit": "Time limit of a cell, in seconds. Default: 120, or 3600 with --model.",
    "memory-limit": "Memory limit of a cell's process (example: 3GiB). Default: 8GiB, or none with --model.",
    "tier": "default (the cells that tell releases apart), full, deep or deep-only. Named cells run in any case.",
    "model": "Real weights in place of the tiny models: a directory or a hub id.",
    "gpus": "At most this many GPUs, each with one worker.",
    "gpu-idle-below": "Use only GPUs where other processes hold less than this many GB.",
    "gpu-larger-than": "Use only GPUs with more than this many GB.",
    "fresh": "Also run cells whose observation is cached.",
    "pass-env": "Environment variable that cells get too, such as HF_TOKEN for a gated model; may be repeated.",
    "offline": "Contact no registry.",
    "wheelhouse": "Folder of wheels, or an unpacked bundle.",
    "base-python": "Use the torch of that Python.",
    "base-torch": "Use the torch of the Python that runs this command.",
    "cells": "File of cell ids, one per line: run only these cells, in this order.",
    "seeds": "Measure how often the learning test is wrong, with N seeds or the seeds FIRST-LAST.",
    Instead.FAULTS: "Plant faults, and verify that checks name them. Independent faults are scored.",
    Instead.GUARD: "Run every cell under a `TrainingGuard`, and the guard's own tests.",
    Instead.CLOSED_FORMS: "Compare the closed forms of `compat census` with loaded models.",
    Instead.ADAPTERS: "Save adapters, and compare the results of `compat inspect` with how this stack loads them.",
    Instead.PIPELINES: "Run typical user scripts under `compat watch`.",
    Instead.BRANCHES: "Record which device-dependent branches of the libraries the cells take, and which they do not.",
    Instead.OVERHEAD: "Measure the cost of the recorder.",
    Instead.GUARD_OVERHEAD: "Measure the cost of the guard.",
}
"""Help text of each option, by its name without dashes."""
