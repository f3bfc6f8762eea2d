"""Links to a library's source, at the tag of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import Version

from finetune_compat.contract.records import Frame


@dataclass(frozen=True, slots=True)
class Repository:
    """Where the sources of a package are. A tag is `prefix` and the version."""

    url: str
    folder: str = ""
    """The folder with the import package, with a slash at its end."""
    prefix: str = "v"


REPOSITORIES = {
    "trl": Repository("https://github.com/huggingface/trl"),
    "transformers": Repository("https://github.com/huggingface/transformers", "src/"),
    "peft": Repository("https://github.com/huggingface/peft", "src/"),
    "accelerate": Repository("https://github.com/huggingface/accelerate", "src/"),
    "datasets": Repository("https://github.com/huggingface/datasets", "src/", ""),
    "bitsandbytes": Repository("https://github.com/bitsandbytes-foundation/bitsandbytes", "", ""),
    "torch": Repository("https://github.com/pytorch/pytorch"),
}


def source(frame: Frame, versions: Mapping[str, str]) -> str | None:
    """The URL of the line of `frame` in the installed versions; None for a file of no known package."""
    package = frame.file.partition("/")[0]
    repository, version = REPOSITORIES.get(package), versions.get(package)
    if repository is None or version is None or ".." in frame.file:
        return None
    tag = f"{repository.prefix}{Version(version).public}"
    return f"{repository.url}/blob/{tag}/{repository.folder}{frame.file}#L{frame.line}"
