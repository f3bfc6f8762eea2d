"""Keep a run of a few steps from replacing what a user has trained, sent or logged."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cell.watching.notes import Notes


class Kept:
    """Where a watched script writes. `scratch` takes what trainers write; the host throws it away afterwards."""

    def __init__(self, scratch: Path, notes: Notes) -> None:
        self._scratch, self._notes = scratch, notes

    def training_arguments(self, arguments: Any) -> None:
        """Have the trainer of these arguments write below `scratch`, and report to nobody."""
        asked = str(arguments.output_dir or "trainer_output")
        if not Path(asked).is_relative_to(self._scratch):
            self._notes.change(
                f"output_dir={asked!r} was replaced by a directory that is thrown away, with all checkpoints in it"
            )
            arguments.output_dir = str(self._elsewhere(asked))
            if getattr(arguments, "logging_dir", None):
                arguments.logging_dir = str(self._elsewhere("logs"))
        if getattr(arguments, "push_to_hub", False):
            self._notes.change("push_to_hub=True was taken as False")
            arguments.push_to_hub = False
        if arguments.report_to not in ("none", [], ["none"], None):
            self._notes.change(f"report_to={arguments.report_to!r} was taken as 'none'")
        arguments.report_to = "none"  # Transformers below 5 take None for all there are

    def saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A method that saves into a directory, and into another one where there is something that it would replace."""

        @functools.wraps(original)
        def save(owner: Any, place: Any = None, *args: Any, **kwargs: Any) -> Any:
            for name in ("save_directory", "output_dir"):
                place = kwargs.pop(name, place)
            if kwargs.get("push_to_hub"):
                kwargs["push_to_hub"] = False
                self._notes.change("push_to_hub=True was taken as False")
            given = () if place is None else (self._free(place),)
            return original(owner, *given, *args, **kwargs)

        return save

    def pushing(self, *args: Any, **kwargs: Any) -> None:
        """In place of `push_to_hub`."""
        self._notes.change("push_to_hub() sent nothing")

    def _free(self, place: Any) -> str:
        directory = Path(place)
        ours = directory.is_relative_to(self._scratch)
        if ours or not directory.is_dir() or not any(directory.iterdir()):
            return str(place)
        self._notes.change(f"what {str(place)!r} holds was left as it is: what was saved there was thrown away")
        return str(self._elsewhere(str(place)))

    def _elsewhere(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{Path(name).name or 'out'}-", dir=self._scratch))
