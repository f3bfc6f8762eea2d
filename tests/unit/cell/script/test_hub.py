"""A watched script and the hub."""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from finetune_compat.cell.script import hub
from finetune_compat.cell.script.notes import Notes


def refuses(*_: object, **__: object) -> None:
    raise AssertionError("Torch not compiled with CUDA enabled")


class TestTheHub:
    def test_nobody_logs_in_and_a_token_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "mine")
        module = SimpleNamespace(login=refuses, notebook_login=refuses)
        notes = Notes()
        hub.logins(cast("ModuleType", module), notes)
        module.notebook_login()
        assert os.environ["HF_TOKEN"] == "mine"
        module.login(token="theirs")
        assert os.environ["HF_TOKEN"] == "theirs"
        assert [sentence.partition(" did not log in")[0] for sentence in notes.changed] == [
            "notebook_login()",
            "login()",
        ]
        assert not hasattr(module, "interpreter_login")

    def test_nothing_is_changed_there(self) -> None:
        class HfApi:
            create_repo = upload_folder = whoami = refuses

            def model_info(self) -> str:
                return "read"

        module = SimpleNamespace(HfApi=HfApi, RepoUrl=str, create_repo=HfApi().create_repo, whoami=refuses)
        notes = Notes()
        hub.writes(cast("ModuleType", module), notes)
        assert HfApi().upload_folder(folder_path="out", repo_id="me/it") is None  # type: ignore[func-returns-value]
        assert module.create_repo("me/it") == "https://huggingface.co/me/it"
        assert module.whoami()["name"] == "nobody"
        assert HfApi().model_info() == "read"
        assert notes.changed[0] == "upload_folder() of the hub was not called: a watched run changes nothing there"
