"""A shared store in a repository of the Hugging Face hub.

The hub permits about a hundred commits per hour. Its fsspec filesystem makes one commit per file, so this module uses
huggingface_hub, which puts many files into one commit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

AT_ONCE = 500
"""Most files in a commit. Each has about 10 kB."""


def is_repository(fs: Any, base: str) -> bool:
    """Whether `base`, on the fsspec filesystem `fs`, is in a repository of the hub, and not in a bucket."""
    return fs.protocol == "hf" and not base.startswith("buckets/")


def commit(fs: Any, base: str, files: Mapping[str, bytes]) -> None:
    """Write `files`, content by path below `base`, in commits of up to `AT_ONCE` files."""
    from huggingface_hub import CommitOperationAdd, HfApi

    place = fs.resolve_path(base)
    api = HfApi(endpoint=fs.endpoint, token=fs.token)
    left = iter(files.items())
    while some := list(itertools.islice(left, AT_ONCE)):
        api.create_commit(
            repo_id=place.repo_id,
            repo_type=place.repo_type,
            revision=place.revision,
            operations=[
                CommitOperationAdd(path_in_repo=f"{place.path_in_repo}/{name}".lstrip("/"), path_or_fileobj=content)
                for name, content in some
            ],
            commit_message=f"{len(some)} observations",
        )
