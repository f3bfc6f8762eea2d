"""Keep a run of a few steps from replacing what a user has trained, sent or logged."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from finetune_compat.cell.script.notes import Notes
from finetune_compat.contract.script import SHOWN, Shown


class Kept:
    """Where a watched script saves. `scratch` takes what trainers write, and what would replace something; where
    `everything` is to be thrown away, all that is saved. The host throws it away afterwards.
    """

    def __init__(self, scratch: Path, notes: Notes, *, everything: bool = False) -> None:
        self._scratch, self._notes, self._everything = scratch.resolve(), notes, everything
        scratch.mkdir(exist_ok=True)
        self._own: set[Path] = set()
        """Directories that held nothing when the script first saved into them, and are saved into."""
        self._moved: dict[Path, Path] = {}
        """Directories that are not saved into, and what is in their place."""

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

    def savers(self, module: ModuleType) -> None:
        """Follow every class of a module that saves itself into a directory."""
        for cls in list(vars(module).values()):
            if not isinstance(cls, type) or cls.__module__ != module.__name__ or "save_pretrained" not in vars(cls):
                continue
            cls.save_pretrained = self.saving(vars(cls)["save_pretrained"])  # type: ignore[attr-defined]
            if hasattr(cls, "push_to_hub"):
                cls.push_to_hub = self.pushing

    def saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A method that saves into a directory, and into another one where that is not to be."""

        @functools.wraps(original)
        def save(owner: Any, place: Any = None, *args: Any, **kwargs: Any) -> Any:
            for name in ("save_directory", "output_dir"):
                place = kwargs.pop(name, place)
            if kwargs.get("push_to_hub"):
                kwargs["push_to_hub"] = False
                self._notes.change("push_to_hub=True was taken as False")
            if place is None:
                return original(owner, *args, **kwargs)
            saved = original(owner, self._place(place), *args, **kwargs)
            self._show(Path(place).resolve())
            return saved

        return save

    def pushing(self, *args: Any, **kwargs: Any) -> None:
        """In place of `push_to_hub`."""
        self._notes.change("push_to_hub() sent nothing")

    def _place(self, asked: Any) -> str:
        directory = Path(asked).resolve()
        if directory.is_file() or directory.is_relative_to(self._scratch):
            return str(asked)
        if directory not in self._own and directory not in self._moved:
            self._decide(str(asked), directory)
        return str(self._moved.get(directory, asked))

    def _decide(self, asked: str, directory: Path) -> None:
        """Whether the script may save into a directory, when it first does."""
        if directory.is_dir() and any(directory.iterdir()):
            self._notes.change(f"what {asked!r} holds was left as it is: what was saved there was thrown away")
        elif self._everything:
            self._notes.change(f"what was saved in {asked!r} was thrown away when the script had ended")
        else:
            self._own.add(directory)
            return
        self._moved[directory] = self._elsewhere(asked)

    def _show(self, directory: Path) -> None:
        """Let what was saved in place of a directory be read back there, through links; where none of it was there
        before. The host takes the links away, however the script ends.

        They lead to what is in it, and none stands in its own place: a script may remove it, or write into it.
        """
        instead = self._moved.get(directory)
        if instead is None:
            return
        with suppress(OSError):  # a file system without links, or a place that nobody may write to
            links = {directory / entry.name: entry for entry in instead.iterdir()}
            new = {link: entry for link, entry in links.items() if not link.is_symlink() or link.readlink() != entry}
            if any(link.exists() or link.is_symlink() for link in new):
                return
            record = instead.with_name(f"{instead.name}{SHOWN}")
            if not record.exists():
                made = [str(place) for place in (directory, *directory.parents) if not place.exists()]
                record.write_text(json.dumps(dataclasses.asdict(Shown(str(directory), tuple(made)))), encoding="utf-8")
            directory.mkdir(parents=True, exist_ok=True)
            for link, entry in new.items():
                link.symlink_to(entry)

    def _elsewhere(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{Path(name).name or 'out'}-", dir=self._scratch))
