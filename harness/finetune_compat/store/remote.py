"""A shared store at a URL, through fsspec. Host side."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.store import hub, stored_files
from finetune_compat.store.stored_files import Damaged

AT_ONCE = 1_000
"""Most files in one request. Each has about 10 kB."""


class StoreUnreachable(CompatError):
    """The shared store does not answer, so its contents are unknown."""

    exit_code = ExitCode.COULD_NOT_TELL


class Remote:
    """The shared store at `url`. It has the layout of a local store."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._base = _filesystem(self.url)
        self.seen: frozenset[str] = frozenset()
        """Names of the files in the last listing, and of those added since."""

    def __str__(self) -> str:
        return self.url

    def names(self, addresses: Iterable[str] | None = None) -> dict[str, list[str]]:
        """Names of its files by address, from one listing; only of `addresses` if given.

        Raises:
            StoreUnreachable: the shared store does not answer.
        """
        wanted = None if addresses is None else frozenset(addresses)
        found: dict[str, list[str]] = defaultdict(list)
        for name in self._sizes():
            if wanted is None or stored_files.address_of(name) in wanted:
                found[stored_files.address_of(name)].append(name)
        return dict(found)

    def fetch(self, addresses: Iterable[str], root: Path) -> list[str]:
        """Download the files of `addresses` into the store at `root`; return a message for each damaged file.

        Raises:
            StoreUnreachable: the shared store does not answer.
            OSError: the store at `root` cannot be written to.
        """
        damages = []
        for name, content in self._contents(name for found in self.names(addresses).values() for name in found):
            try:
                stored_files.parsed(name, content)
            except Damaged as damage:
                damages.append(f"{self.url}/{_below(name)}: {damage}")
            else:
                stored_files.write_content(root, name, content)
        return damages

    def copy(self, root: Path) -> None:
        """Download all files into `root`, including damaged ones.

        Raises:
            StoreUnreachable: the shared store does not answer.
            OSError: `root` cannot be written to.
        """
        for name, content in self._contents(self._sizes()):
            stored_files.write_content(root, name, content)

    def _contents(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the name and content of each file, downloaded in batches to limit memory."""
        todo = iter(names)
        while some := list(itertools.islice(todo, AT_ONCE)):
            with self._asked("read"):
                contents = self._fs.cat([self._path(name) for name in some])
            yield from ((name, contents[self._path(name)]) for name in some)

    def add(self, root: Path, names: Iterable[str]) -> int:
        """Upload those of `names` that the shared store lacks from the store at `root`; return their number.

        A file of another size in the shared store is an incomplete upload, and is replaced.

        Raises:
            StoreUnreachable: the shared store does not answer, or refuses to write.
        """
        there = self._sizes()
        missing = [name for name in names if there.get(name) != stored_files.path_of(root, name).stat().st_size]
        with self._asked("written to"):
            self._write({_below(name): stored_files.path_of(root, name).read_bytes() for name in missing})
        self.seen |= frozenset(missing)
        return len(missing)

    def _write(self, files: Mapping[str, bytes]) -> None:
        """Write `files`, content by path below the base."""
        if hub.is_repository(self._fs, self._base):
            hub.commit(self._fs, self._base, files)
            return
        for folder in sorted({name.rpartition("/")[0] for name in files}):
            self._fs.makedirs(f"{self._base}/{folder}", exist_ok=True)
        if files:
            self._fs.pipe({f"{self._base}/{name}": content for name, content in files.items()})

    def _sizes(self) -> dict[str, int]:
        """Size in bytes by name."""
        with self._asked("listed"):
            self._fs.invalidate_cache()  # other machines write to the shared store too
            found = self._fs.find(f"{self._base}/{stored_files.OBJECTS}", detail=True)
        named = ((path.rpartition("/")[2], entry) for path, entry in found.items())
        sizes = {name: entry["size"] for name, entry in named if stored_files.is_name(name)}
        self.seen = frozenset(sizes)
        return sizes

    def _path(self, name: str) -> str:
        return f"{self._base}/{_below(name)}"

    @contextlib.contextmanager
    def _asked(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - each kind of filesystem raises what its own client raises
            raise StoreUnreachable(
                f"the shared store cannot be {verb}: {type(error).__name__}: {error}",
                where=self.url,
                meaning="The network fails, or the credentials are missing. Results are cached on this machine.",
                todo="Try again, or unset COMPAT_STORE_REMOTE to use only this machine's store. "
                "`compat store push` uploads the missing results later.",
            ) from None


def _below(name: str) -> str:
    return f"{stored_files.OBJECTS}/{name[:2]}/{name}"


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise CompatError(
            f"{url!r} is not a valid URL of a shared store: {error}",
            where="COMPAT_STORE_REMOTE",
            meaning="The protocol is misspelt, or needs another package: s3fs, gcsfs or huggingface_hub.",
            todo="Name a URL such as s3://bucket/compat or hf://datasets/org/name, and install its package in "
            "this environment.",
        ) from None
    return fs, str(base).rstrip("/")
