"""Links to the source of a release: the repository and the tag of each followed package. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Repository:
    path: str
    tag: str
    """The name of a release's tag."""
    folder: str = ""
    """The folder of the import package."""


_REPOSITORIES: Mapping[str, _Repository] = {
    "trl": _Repository("huggingface/trl", "v{}"),
    "peft": _Repository("huggingface/peft", "v{}", "src/"),
    "transformers": _Repository("huggingface/transformers", "v{}", "src/"),
    "accelerate": _Repository("huggingface/accelerate", "v{}", "src/"),
    "datasets": _Repository("huggingface/datasets", "{}", "src/"),
    "bitsandbytes": _Repository("bitsandbytes-foundation/bitsandbytes", "{}"),
    "torch": _Repository("pytorch/pytorch", "v{}"),
}


def source_link(file: str, version: str, first: int, last: int) -> str:
    """The link to lines of `file`, a path below site-packages, at the tag of the release; empty if it is unknown."""
    found = _REPOSITORIES.get(file.partition("/")[0])
    if found is None or not version:
        return ""
    tag = found.tag.format(version.partition("+")[0])
    return f"https://github.com/{found.path}/blob/{tag}/{found.folder}{file}#L{first}-L{last}"
