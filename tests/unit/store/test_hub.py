"""A shared store in a repository of the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from finetune_compat.store import hub, remote, stored_files
from finetune_compat.store.remote import Remote
from finetune_compat.store.store import Store
from store_builders import stored_object


class Hub:
    """A stand-in for the hub's library and its filesystem: it takes commits, and writes no single file."""

    protocol, endpoint, token = "hf", "https://hub", None

    def __init__(self) -> None:
        self.commits: list[dict[str, Any]] = []

    def create_commit(self, **given: Any) -> None:
        self.commits.append(given)

    def resolve_path(self, path: str) -> SimpleNamespace:
        assert path == "datasets/team/results/compat"
        return SimpleNamespace(repo_id="team/results", repo_type="dataset", revision="main", path_in_repo="compat")

    def invalidate_cache(self) -> None:
        pass

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, int]]:
        files = dict(file for each in self.commits for file in each["operations"])
        return {name: {"size": len(content)} for name, content in files.items()}


def test_a_repository_of_the_hub_is_written_by_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit has many files: a commit for each file of a matrix would take days."""
    stand_in = Hub()
    library = ModuleType("huggingface_hub")
    library.HfApi = lambda **_: stand_in  # type: ignore[attr-defined]
    library.CommitOperationAdd = lambda **given: (given["path_in_repo"], given["path_or_fileobj"])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setattr(remote, "_filesystem", lambda _: (stand_in, "datasets/team/results/compat"))
    monkeypatch.setattr(hub, "AT_ONCE", 3)
    store = Store(tmp_path, Remote("hf://datasets/team/results/compat"))
    names = [stored_files.write(tmp_path, stored_object(seed=seed)) for seed in range(5)]
    assert (store.push(), store.push()) == (5, 0)
    assert [(each["repo_id"], each["repo_type"], len(each["operations"])) for each in stand_in.commits] == [
        ("team/results", "dataset", 3),
        ("team/results", "dataset", 2),
    ]
    written = {path: content for each in stand_in.commits for path, content in each["operations"]}
    assert written == {
        f"compat/objects/{name[:2]}/{name}": stored_files.path_of(tmp_path, name).read_bytes() for name in names
    }


@pytest.mark.parametrize(
    ("protocol", "base", "found"),
    [("hf", "datasets/team/results", True), ("hf", "buckets/team/results", False), (("s3", "s3a"), "team", False)],
)
def test_only_repositories_of_the_hub_have_commits(protocol: object, base: str, found: bool) -> None:
    """Its buckets take single files, as every other store does."""
    assert hub.is_repository(SimpleNamespace(protocol=protocol), base) is found
