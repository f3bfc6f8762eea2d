"""The package index, in stand-ins of its answers."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from datetime import date
from email.message import Message
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError, RegistryUnreachable
from finetune_compat.stacks import index
from finetune_compat.stacks.index import Release
from packaging.specifiers import SpecifierSet
from packaging.version import Version

FILES = [
    {"filename": "trl-0.22.1-py3-none-any.whl", "upload-time": "2025-08-29T23:59:59.5Z"},
    {"filename": "trl-0.22.1.tar.gz", "upload-time": "2025-08-28T00:00:00Z"},
    {"filename": "trl-0.23.0-py3-none-any.whl", "upload-time": "2025-09-10T00:00:00Z"},
    {"filename": "trl-0.24.0-py3-none-any.whl", "upload-time": "2025-10-16T00:00:00Z", "yanked": "broken"},
    {"filename": "trl-0.25.0.tar.gz", "upload-time": "2025-11-06T00:00:00Z"},
]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the index answer this, or fail with this."""
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple/")

    def use(answer: object) -> None:
        def urlopen(request: urllib.request.Request, timeout: float) -> io.BytesIO:
            assert request.full_url == "https://mirror.example/simple/trl/"
            if isinstance(answer, Exception):
                raise answer
            return io.BytesIO(json.dumps(answer).encode())

        index._releases.cache_clear()
        monkeypatch.setattr(urllib.request, "urlopen", urlopen)

    return use


class TestIndex:
    def test_releases_have_a_wheel_and_were_not_withdrawn(self, answering: Any) -> None:
        """The day is that of the wheel, in UTC."""
        answering({"files": FILES})
        assert index.releases("trl") == (
            Release(Version("0.22.1"), date(2025, 8, 29)),
            Release(Version("0.23.0"), date(2025, 9, 10)),
        )
        assert index.release_day("trl", Version("0.23")) == date(2025, 9, 10)

    def test_a_missing_release(self, answering: Any) -> None:
        """The message names its neighbours."""
        answering({"files": FILES})
        with pytest.raises(CompatError) as raised:
            index.release_day("trl", Version("0.22.9"))
        assert str(raised.value) == (
            "https://mirror.example/simple: trl has no release 0.22.9 with a wheel\n"
            "Its nearest releases are 0.22.1, 0.23.0.\nName an existing release."
        )

    def test_an_index_without_days(self, answering: Any) -> None:
        """The index does not implement PEP 700."""
        answering({"files": [{"filename": "trl-0.22.1-py3-none-any.whl"}]})
        with pytest.raises(CompatError) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            "https://mirror.example/simple/trl/: the index gives no upload times of releases\n"
            "Some mirrors have no upload-time (PEP 700). The gate needs it for the day of a release.\n"
            "Set UV_DEFAULT_INDEX to an index that has it, or name stacks of the matrix or lock files."
        )

    def test_a_missing_package(self, answering: Any) -> None:
        """The name is probably misspelt."""
        answering(urllib.error.HTTPError("", 404, "Not Found", Message(), None))
        with pytest.raises(CompatError) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            "https://mirror.example/simple: there is no package 'trl'\n"
            "The name is misspelt, or the package is on another index.\nCorrect the name, or set UV_DEFAULT_INDEX."
        )

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (urllib.error.URLError("no route to host"), "no route to host"),
            (urllib.error.HTTPError("", 503, "Busy", Message(), None), "HTTP status 503"),
            ([], "no JSON of the simple API: list indices must be integers or slices, not str"),
        ],
    )
    def test_an_index_that_does_not_answer_is_an_infrastructure_failure(
        self, answering: Any, answer: object, why: str
    ) -> None:
        """This is an infrastructure failure; the rows of the matrix need no index."""
        answering(answer)
        with pytest.raises(RegistryUnreachable) as raised:
            index.releases("trl")
        assert str(raised.value) == (
            f"https://mirror.example/simple: the package index does not answer: {why}\n"
            "For a bare pin, the other packages are as of its release day, which only the index has.\n"
            "Check the connection, or name stacks of the matrix: their days and locks are committed."
        )


class TestWheels:
    @pytest.mark.parametrize(
        ("allowed", "version"), [("", "2.0"), ("<2", None), ("==2.0", "2.0"), (">=3.0rc1", "3.0rc1"), (">9", None)]
    )
    def test_the_newest_release_may_have_only_a_source(
        self, monkeypatch: pytest.MonkeyPatch, allowed: str, version: str | None
    ) -> None:
        """A resolver that takes only wheels would go back years without a word."""
        names = ("x-1.0-py3-none-any.whl", "x-1.0.tar.gz", "x-2.0.tar.gz", "x-3.0rc1.tar.gz", "x-2.0.exe", "odd")
        files = [*({"filename": name} for name in names), {"filename": "x-2.1.tar.gz", "yanked": "broken"}]
        monkeypatch.setattr(index, "_files", lambda *_: files)
        assert index.newest_without_wheel("x", SpecifierSet(allowed)) == (version and Version(version))

    def test_a_package_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The resolver says so."""

        def files(*_: str) -> None:
            raise CompatError("there is no package")

        monkeypatch.setattr(index, "_files", files)
        assert index.newest_without_wheel("x", SpecifierSet()) is None
