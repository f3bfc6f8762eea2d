"""Keep a watched script from logging in to the model hub and from changing anything there.

A token that the script passes is used for its downloads, and is saved nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from finetune_compat.cell.script.notes import Notes

_LOGINS = ("login", "interpreter_login", "notebook_login", "auth_switch", "logout")

_WRITES = (
    "create_branch",
    "create_commit",
    "create_repo",
    "create_tag",
    "delete_branch",
    "delete_file",
    "delete_folder",
    "delete_repo",
    "delete_tag",
    "move_repo",
    "preupload_lfs_files",
    "super_squash_history",
    "update_repo_settings",
    "update_repo_visibility",
    "upload_file",
    "upload_folder",
    "upload_large_folder",
)
"""Methods of `HfApi` that change a repository. Functions of the module have the same names."""


def logins(module: ModuleType, notes: Notes) -> None:
    """Replace the functions of `huggingface_hub._login`."""
    for name in _LOGINS:
        if hasattr(module, name):
            setattr(module, name, _login(name, notes))


def _login(name: str, notes: Notes) -> Callable[..., None]:
    def instead(token: Any = None, *args: Any, **kwargs: Any) -> None:
        notes.change(f"{name}() did not log in to the hub: downloads use the token that is passed to it, or your own")
        if name == "login" and isinstance(token, str):
            os.environ["HF_TOKEN"] = token

    return instead


def writes(module: ModuleType, notes: Notes) -> None:
    """Replace the methods of `HfApi` that change a repository, and `whoami`, in `huggingface_hub.hf_api`."""
    for name in _WRITES:
        if hasattr(module.HfApi, name):
            answer = _address(module) if name == "create_repo" else None
            setattr(module.HfApi, name, _method(name, answer, notes))
    module.HfApi.whoami = _method(
        "whoami", lambda *_, **__: {"name": "nobody", "fullname": "nobody", "orgs": []}, notes
    )
    api = module.HfApi()
    for name in (*_WRITES, "whoami"):
        if hasattr(module, name):
            setattr(module, name, getattr(api, name))


def _method(name: str, answer: Callable[..., Any] | None, notes: Notes) -> Callable[..., Any]:
    def instead(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes.change(f"{name}() of the hub was not called: a watched run changes nothing there")
        return answer(*args, **kwargs) if answer else None

    return instead


def _address(module: ModuleType) -> Callable[..., Any]:
    def address(repo_id: str = "", *_: Any, **__: Any) -> Any:
        return module.RepoUrl(f"https://huggingface.co/{repo_id}")

    return address
