"""`compat` in an environment without the packages that commands need."""

from __future__ import annotations

import importlib.metadata as installed

import pytest
from finetune_compat import __main__, cli
from finetune_compat.__main__ import main, missing_requirements


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements as the metadata of a wheel lists them."""
    lines = [
        'rich>=13; extra == "host"',
        "nope-tool ; extra == 'host'",
        'uv<0.1; extra == "host"',
        "numpy; extra == 'x'",
    ]
    monkeypatch.setattr(__main__.metadata, "requires", lambda name: lines)


def test_missing_packages_are_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message is the same wherever a command misses it: the training environment may hold another version."""
    for error in (ModuleNotFoundError("No module named 'pydantic'"), AttributeError("typer has no TyperException")):

        def fail(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(cli, "main", fail)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 4
        assert capsys.readouterr().err == (
            "compat needs the extra `host`, which is not installed (missing: nope-tool, uv<0.1): "
            "pip install 'finetune-compat[host]'\n"
        )


def test_with_all_packages_an_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the project is not hidden behind that message."""
    monkeypatch.setattr(__main__.metadata, "requires", lambda name: ['rich; extra == "host"'])

    def fail() -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(AttributeError, match="a bug"):
        main()


def test_a_package_without_metadata_requires_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked bundle has its packages and no metadata."""

    def unknown(name: str) -> None:
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(__main__.metadata, "requires", unknown)
    assert missing_requirements() == []
