"""The modules of a user that a script imports: without them, it cannot be run elsewhere. Nothing is imported."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def local_modules(script: Path) -> dict[str, Path]:
    """The file of every module below the script's directory or PYTHONPATH that the script imports, directly or not.

    Returns:
        Files by path relative to the directory that they were found in, such as `helpers/data.py`, in the order of the
        imports. Modules whose name is computed are not found.
    """
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [script.parent, *(Path(path) for path in paths if path)]
    found: dict[str, Path] = {}
    waiting: list[tuple[Path, str]] = [(script, "")]
    while waiting:
        file, package = waiting.pop(0)
        for name in _imported(file, package):
            for inside, shown, there in _files(name, folders):
                if shown not in found and there != script:
                    found[shown] = there
                    waiting.append((there, inside))
    return found


def _imported(file: Path, package: str) -> Iterator[str]:
    """Names of modules in the import statements of a file in `package`. What follows `from x import` may be one."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join((*above, *filter(None, [module])))
                yield base
                yield from (f"{base}.{name.name}" for name in names)


def _files(name: str, folders: Sequence[Path]) -> Iterator[tuple[str, str, Path]]:
    """The package, the path and the file of each module that an import runs, packages first. They are in the first
    folder that has the first part of the name.
    """
    parts = [part for part in name.split(".") if part]
    for folder in folders if parts else ():
        top = folder / parts[0]
        if top.is_dir() or top.with_suffix(".py").is_file():
            for number in range(1, len(parts) + 1):
                at = folder.joinpath(*parts[:number])
                package, module = at / "__init__.py", at.with_suffix(".py")
                if package.is_file():
                    yield ".".join(parts[:number]), package.relative_to(folder).as_posix(), package
                elif module.is_file():
                    yield ".".join(parts[: number - 1]), module.relative_to(folder).as_posix(), module
            return
