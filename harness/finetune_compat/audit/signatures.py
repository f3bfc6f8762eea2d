"""What releases of TRL, Transformers and PEFT accept: `signatures.json` beside the ledger.

`python -m finetune_compat.evidence.signatures` writes it from the wheels of all locked releases, by reading their
source. A callable is named by its public name, such as `trl.SFTConfig` or `peft.PeftModel.from_pretrained`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from packaging.version import Version

from finetune_compat.contract.errors import RecordsError
from finetune_compat.machine.places import places

SIGNATURES = "signatures.json"

ANY = "**"
"""Stands among the arguments of a callable that takes any keyword."""


@dataclass(frozen=True)
class Signatures:
    """The arguments of callables and the names of packages, by release.

    Spans are indices of the first and the last release, in the order of `releases`.
    """

    releases: Mapping[str, Sequence[str]]
    """By package, from old to new."""
    callables: Mapping[str, Mapping[str, Sequence[Sequence[int]]]]
    """The spans of each argument, by callable, then by argument."""
    bases: Mapping[str, Mapping[str, Sequence[Sequence[int]]]]
    """The spans of each base in another package whose arguments a callable takes too."""
    names: Mapping[str, Mapping[str, Sequence[Sequence[int]]]]
    """The spans of each name that `from PACKAGE import NAME` finds, by package."""

    @cached_property
    def _order(self) -> Mapping[str, Sequence[Version]]:
        return {package: [Version(text) for text in texts] for package, texts in self.releases.items()}

    def nearest(self, package: str, version: str) -> int | None:
        """The index of the newest release that is not newer than `version`.

        None if `version` is outside the releases, or if an argument may have changed between it and the next one.
        """
        order, asked = self._order.get(package, ()), Version(version)
        if not order or asked < order[0] or asked > order[-1]:
            return None
        return max(place for place, known in enumerate(order) if known <= asked)

    def exact(self, package: str, version: str) -> bool:
        """Whether the source of this very release was read."""
        return version in self.releases.get(package, ())

    def arguments(self, name: str, versions: Mapping[str, str]) -> tuple[str, ...] | None:
        """The arguments of a callable with these versions; None if it is not known.

        A callable that takes any keyword has `ANY` among them.
        """
        own = self._at(self.callables.get(name), name, versions)
        if not own:
            return None
        for base in self._at(self.bases.get(name), name, versions) or ():
            inherited = self.arguments(base, versions)
            if inherited is None:
                return None
            own += tuple(argument for argument in inherited if argument not in own)
        return own

    def ever(self, name: str, argument: str) -> bool:
        """Whether any release has this argument, of the callable or of a base. A misspelt one is not a removed one."""
        if argument in self.callables.get(name, {}):
            return True
        return any(self.ever(base, argument) for base in self.bases.get(name, {}))

    def has_name(self, package: str, name: str, version: str) -> bool | None:
        """Whether `from package import name` works; None if it is not known."""
        place = self.nearest(package, version)
        spans = self.names.get(package, {}).get(name)
        if place is None or spans is None:
            return None
        return _inside(spans, place)

    def until(self, package: str, name: str) -> str:
        """The last release with a name of the package."""
        return self.releases[package][self.names[package][name][-1][1]]

    def _at(
        self, known: Mapping[str, Sequence[Sequence[int]]] | None, name: str, versions: Mapping[str, str]
    ) -> tuple[str, ...] | None:
        package = name.partition(".")[0]
        place = self.nearest(package, versions[package]) if package in versions else None
        if known is None or place is None:
            return None
        return tuple(one for one, spans in known.items() if _inside(spans, place))


def _inside(spans: Sequence[Sequence[int]], place: int) -> bool:
    return any(first <= place <= last for first, last in spans)


@cache
def read_signatures(path: Path | None = None) -> Signatures:
    """The signatures in `path`; by default those beside the ledger.

    Raises:
        RecordsError: the file is missing or invalid.
    """
    path = path or places().ledger.with_name(SIGNATURES)
    try:
        return Signatures(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise RecordsError(
            "the signatures of releases cannot be read",
            where=str(path),
            meaning=str(error),
            todo="Write the file again: python -m finetune_compat.evidence.signatures --write",
        ) from None
