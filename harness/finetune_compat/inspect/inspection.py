"""The inspection of a saved adapter: its facts, its findings, and both as JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.checks.codes import Severity
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.beside import Beside
from finetune_compat.inspect.case import Case
from finetune_compat.inspect.findings import Finding, findings_of
from finetune_compat.inspect.layers import Layer
from finetune_compat.inspect.loading import Loading, load_under, vocabulary_of
from finetune_compat.inspect.saved import Saved, read_adapter
from finetune_compat.inspect.values import Values
from finetune_compat.inspect.weights import Tensor

SCHEMA = 1
"""Version of the JSON; incremented when a field changes its meaning or is removed."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts and findings of one adapter."""

    saved: Saved
    loading: Loading | None
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """HEALTHY if there are no findings but notes, else UNHEALTHY."""
        bad = any(finding.severity is Severity.UNHEALTHY for finding in self.findings)
        return ExitCode.UNHEALTHY if bad else ExitCode.HEALTHY


def inspect_adapter(directory: Path, *, base: str | None = None, stack: str | None = None) -> Inspection:
    """Inspect the adapter saved in `directory`. With `base` and `stack`, also load it into `base` under `stack`.

    Raises:
        AdapterError: the adapter or the base cannot be read.
        CompatError: the stack has no environment, or its process failed.
    """
    saved = read_adapter(directory)
    return inspected(saved, load_under(saved, base, stack) if base and stack else None, vocabulary_of(saved, base))


def inspected(saved: Saved, loading: Loading | None, vocabulary: int | None) -> Inspection:
    """The inspection of an adapter that was read, and perhaps loaded.

    Args:
        saved: the adapter.
        loading: what became of it under a stack; None if it was not loaded.
        vocabulary: rows of the base's vocabulary; None if they are not known.
    """
    return Inspection(saved, loading, findings_of(Case(saved, loading, vocabulary)))


def as_json(seen: Inspection) -> dict[str, Any]:
    """Facts and findings in JSON types, without NaN and infinity."""
    saved = seen.saved
    return {
        "schema": SCHEMA,
        "adapter": str(saved.directory),
        "healthy": seen.exit_code is ExitCode.HEALTHY,
        "findings": [dataclasses.asdict(finding) for finding in seen.findings],
        "config": saved.config_raw,
        "beside": _beside(saved.beside),
        "file": {"bytes": saved.weights.size, "metadata": saved.weights.metadata, "pickles": saved.pickles},
        "classes": [{**dataclasses.asdict(facts), "values": _values(facts.values)} for facts in saved.classes],
        "modules": [_module(layer) for layer in saved.layers],
        "tensors": [_tensor(saved, tensor) for tensor in saved.weights.tensors],
        "loading": None if seen.loading is None else dataclasses.asdict(seen.loading),
    }


def _beside(beside: Beside) -> dict[str, Any]:
    # A log may hold NaN and infinity, which are no JSON: they become text.
    found = dataclasses.asdict(beside)
    for entry in (*found["log"]["losses"], *found["log"]["gradient_norms"]) if beside.log else ():
        entry["value"] = entry["value"] if math.isfinite(entry["value"]) else str(entry["value"])
    return found


def _module(layer: Layer) -> dict[str, Any]:
    return {
        "module": layer.module,
        "ranks": layer.ranks,
        "rank_asked": layer.rank_asked,
        "alpha": layer.alpha,
        "scaling": layer.scaling,
        "targeted": layer.targeted,
    }


def _tensor(saved: Saved, tensor: Tensor) -> dict[str, Any]:
    name = saved.names[tensor.name]
    facts = {**dataclasses.asdict(tensor), "values": _values(tensor.values)}
    return {**facts, "module": name.module, "class": name.class_name}


def _values(values: Values | None) -> dict[str, Any] | None:
    if values is None:
        return None
    # Extremes are finite by definition. The norm of very large doubles can overflow to infinity.
    return {**dataclasses.asdict(values), "norm": values.norm if math.isfinite(values.norm) else None}
