"""A shared store in a repository of the Hugging Face hub. Its filesystem makes a commit for each file, has no
transactions, and the hub takes about a hundred commits an hour; its own library puts many files into one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

AT_ONCE = 500
"""Files of a commit, of some 10 kB each: what the hub takes in one request, and then some."""


def is_repository(fs: Any, base: str) -> bool:
    """Whether `base`, of a filesystem of fsspec, is in a repository of the hub, which commits; a bucket does not."""
    return fs.protocol == "hf" and not base.startswith("buckets/")


def commit(fs: Any, base: str, files: Mapping[str, bytes]) -> None:
    """Write files, by their names below `base`, in as few commits as may be."""
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
