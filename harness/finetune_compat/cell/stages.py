"""Count the trainable parameters of a user's own script, at the stages that the script names."""

from __future__ import annotations

from torch import nn

from finetune_compat.cell.instruments import census
from finetune_compat.contract.records import Actor, Area, Census, Stage


class StageRecorder:
    """Call it with the name of a stage and the model. Then print `table()`, or use the assert methods.

    Parameters are counted as PEFT prints them: a 4-bit weight counts as one parameter, not as half a byte.
    """

    def __init__(self) -> None:
        self._taken: dict[str, Census] = {}

    def __call__(self, stage: str, model: nn.Module) -> None:
        """Count `model` at `stage`, a name of your choice.

        Raises:
            ValueError: `stage` has been counted already.
        """
        if stage in self._taken:
            raise ValueError(f"stage {stage!r} has been counted already; stages are {self._names()}")
        # A census needs a stage of this project's flows. Here only the key `stage` counts.
        self._taken[stage] = census.take(model, Stage.TRAINING, Actor.FLOW, digest=False)

    def __getitem__(self, stage: str) -> Census:
        """The census of `stage`.

        Raises:
            KeyError: nothing was counted at `stage`.
        """
        if stage not in self._taken:
            raise KeyError(f"nothing was counted at {stage!r}; stages are {self._names()}")
        return self._taken[stage]

    def table(self) -> str:
        """One line per stage: trainable, total, percent, and the trainable parameters of each area."""
        areas = [area for area in Area if any(_trainable(taken, area) for taken in self._taken.values())]
        head = ("stage", "trainable", "total", "percent", *areas)
        rows = [head, *((stage, *_cells(taken, areas)) for stage, taken in self._taken.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(_line(row, widths) for row in rows)

    def assert_trainable(self, stage: str, expected: int) -> None:
        """Exactly `expected` parameters must have been trainable at `stage`."""
        __tracebackhide__ = True
        seen = self[stage].trainable_logical
        if seen != expected:
            self._fail(f"{seen:,} trainable at {stage!r}, expected {expected:,}")

    def assert_same(self, before: str, after: str) -> None:
        """The same parameters, by name, must have been trainable at both stages."""
        __tracebackhide__ = True
        one, other = self[before], self[after]
        if one.trainable_names_sha256 != other.trainable_names_sha256:
            counts = f"{one.trainable_logical:,} there, {other.trainable_logical:,} here"
            self._fail(f"other parameters are trainable at {after!r} than at {before!r}: {counts}")

    def assert_only(self, stage: str, *areas: str) -> None:
        """Only parameters in these areas may have been trainable at `stage`, and some of each must have been."""
        __tracebackhide__ = True
        wanted = {Area(area) for area in areas}
        seen = {area for area in Area if _trainable(self[stage], area)}
        if seen != wanted:
            self._fail(f"trainable at {stage!r}: {_listed(seen)}; expected: {_listed(wanted)}")

    def _fail(self, what: str) -> None:
        __tracebackhide__ = True
        raise AssertionError(f"{what}\n{self.table()}")

    def _names(self) -> str:
        return ", ".join(map(repr, self._taken)) or "none yet"


def _trainable(taken: Census, area: Area) -> int:
    found = taken.by_area.get(area)
    return found.trainable if found else 0


def _cells(taken: Census, areas: list[Area]) -> tuple[str, ...]:
    trainable, total = taken.trainable_logical, taken.total_logical
    percent = 100 * trainable / total if total else 0.0
    by_area = (f"{count:,}" if count else "-" for count in (_trainable(taken, area) for area in areas))
    return f"{trainable:,}", f"{total:,}", f"{percent:.4f}", *by_area


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest))


def _listed(areas: set[Area]) -> str:
    return ", ".join(sorted(areas)) or "nothing"
