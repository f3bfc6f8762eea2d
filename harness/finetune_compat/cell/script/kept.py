"""Keep a watched run of a few steps from overwriting, uploading or logging anything of the user's."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from finetune_compat.cell.script.notes import Notes
from finetune_compat.contract.script import SHOWN, Shown


class Kept:
    """Redirects what a watched script saves into `scratch`: the output of trainers, and saves into directories that are
    not empty; with `everything`, all saves. The host deletes `scratch` afterwards.
    """

    def __init__(self, scratch: Path, notes: Notes, *, everything: bool = False) -> None:
        self._notes = notes
        self.begin_again(scratch, everything=everything)
        self._numbered = 0
        self._own: set[Path] = set()
        """Directories that were empty when the script first saved into them. They are not redirected."""
        self._moved: dict[Path, Path] = {}
        """Directories that are redirected, and the directory in scratch that replaces each."""
        self._outputs: dict[Path, Path] = {}
        """The same for the output directories of trainers."""

    def begin_again(self, scratch: Path, *, everything: bool) -> None:
        """Redirect into `scratch`. Nothing was redirected before."""
        scratch.mkdir(exist_ok=True)
        self._scratch, self._everything = scratch.resolve(), everything

    def training_arguments(self, arguments: Any) -> None:
        """Change `arguments` so that the trainer writes below `scratch`, uploads nothing and reports to no service."""
        asked = str(arguments.output_dir or "trainer_output")
        if not Path(asked).is_relative_to(self._scratch):
            self._notes.change(
                f"output_dir={asked!r} was replaced by a directory that is deleted afterwards, with its checkpoints"
            )
            # Trainers that ask for the same directory get the same one: the second may resume the first.
            wanted = Path(asked).resolve()
            if wanted not in self._outputs:
                self._outputs[wanted] = self._elsewhere(asked)
                self._make(Path(asked), self._outputs[wanted])
            arguments.output_dir = str(self._outputs[wanted])
            if getattr(arguments, "logging_dir", None):
                arguments.logging_dir = str(self._elsewhere("logs"))
        if getattr(arguments, "push_to_hub", False):
            self._notes.change("push_to_hub=True was taken as False")
            arguments.push_to_hub = False
        if arguments.report_to not in ("none", [], ["none"], None):
            self._notes.change(f"report_to={arguments.report_to!r} was taken as 'none'")
        arguments.report_to = "none"  # Transformers below 5 take None for every installed service

    def asked_for(self, output: str) -> str | None:
        """The directory that the script asked for, where trainers write to `output` instead; None if there is none."""
        return next((str(asked) for asked, instead in self._outputs.items() if instead == Path(output)), None)

    def output_of(self, asked: str) -> str | None:
        """The directory that trainers write to instead of `asked`; None if it is not redirected."""
        instead = self._outputs.get(Path(asked).resolve())
        return str(instead) if instead is not None else None

    def checkpointing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, which saves a trainer's checkpoint, followed by links for the script to find it."""

        @functools.wraps(original)
        def save(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            saved = original(trainer, *args, **kwargs)
            asked = self.asked_for(str(trainer.args.output_dir))
            if asked is not None:
                self._show(Path(asked), Path(trainer.args.output_dir))
            return saved

        return save

    def savers(self, module: ModuleType) -> None:
        """Redirect `save_pretrained` and `push_to_hub` of every class of `module`."""
        for cls in list(vars(module).values()):
            if not isinstance(cls, type) or cls.__module__ != module.__name__ or "save_pretrained" not in vars(cls):
                continue
            cls.save_pretrained = self.saving(vars(cls)["save_pretrained"])  # type: ignore[attr-defined]
            if hasattr(cls, "push_to_hub"):
                cls.push_to_hub = self.pushing

    def uploads(self, module: ModuleType) -> None:
        """Replace `push_to_hub` of every class of `module` that defines it."""
        for cls in list(vars(module).values()):
            if isinstance(cls, type) and cls.__module__ == module.__name__ and "push_to_hub" in vars(cls):
                cls.push_to_hub = self.pushing  # type: ignore[attr-defined]

    def saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, a method that saves into a directory, with redirected directories replaced."""

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
            directory = Path(place).resolve()
            if directory in self._moved:
                self._show(directory, self._moved[directory])
            return saved

        return save

    def pushing(self, *args: Any, **kwargs: Any) -> None:
        """Replaces `push_to_hub`: uploads nothing."""
        self._notes.change("push_to_hub() uploaded nothing")

    def _place(self, asked: Any) -> str:
        directory = Path(asked).resolve()
        if directory.is_file() or directory.is_relative_to(self._scratch):
            return str(asked)
        if directory not in self._own and directory not in self._moved:
            self._decide(str(asked), directory)
        return str(self._moved.get(directory, asked))

    def _decide(self, asked: str, directory: Path) -> None:
        """Decide at the first save into `directory` whether it is redirected."""
        if directory.is_dir() and not all(map(self._is_link, directory.iterdir())):
            self._notes.change(f"{asked!r} is not empty and was not changed: files saved to it were deleted afterwards")
        elif self._everything:
            self._notes.change(f"files saved to {asked!r} were deleted after the script ended")
        else:
            self._own.add(directory)
            return
        self._moved[directory] = self._elsewhere(asked)

    def _is_link(self, place: Path) -> bool:
        """Whether `place` is a link into scratch."""
        return place.is_symlink() and place.readlink().is_relative_to(self._scratch)

    def _show(self, directory: Path, instead: Path) -> None:
        """Link the files saved to `instead` into the redirected `directory`, so that the script can read them there.
        Nothing is linked if an entry of the same name exists. The host removes the links, however the script ends.

        Entries are linked, and not the directory: a script may remove the directory, or write into it.
        """
        with suppress(OSError):  # a file system without links, or a directory without write permission
            for link in directory.iterdir() if directory.is_dir() else ():
                if self._is_link(link) and not link.exists():
                    link.unlink()  # the trainer has removed an old checkpoint
            links = {directory / entry.name: entry for entry in instead.iterdir()}
            new = {link: entry for link, entry in links.items() if not link.is_symlink() or link.readlink() != entry}
            if any(link.exists() or link.is_symlink() for link in new):
                return
            self._make(directory, instead)
            for link, entry in new.items():
                link.symlink_to(entry)

    def _make(self, directory: Path, instead: Path) -> None:
        """Make `directory`, as a trainer would, with a record of what the host removes if it is empty."""
        with suppress(OSError):
            directory = directory.absolute()
            record = instead.with_name(f"{instead.name}{SHOWN}")
            if not record.exists():
                made = [str(place) for place in (directory, *directory.parents) if not place.exists()]
                record.write_text(json.dumps(dataclasses.asdict(Shown(str(directory), tuple(made)))), encoding="utf-8")
            directory.mkdir(parents=True, exist_ok=True)

    def _elsewhere(self, name: str) -> Path:
        stem = Path(name).name or "out"
        if int(os.environ.get("WORLD_SIZE", "1") or 1) <= 1:
            return Path(tempfile.mkdtemp(prefix=f"{stem}-", dir=self._scratch))
        # Processes that train together write to the same directory.
        self._numbered += 1
        place = self._scratch / f"{stem}-{self._numbered}"
        place.mkdir(exist_ok=True)
        return place
