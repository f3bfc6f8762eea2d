"""Requirements, pins, markers and sources of all formats, as PEP 440, PEP 503 and PEP 508 define them."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.project_files.entries import (
    checked_marker,
    checked_specifier,
    exact,
    is_version,
    of_address,
    of_pin,
    of_requirement,
    parsed,
    source_of_table,
    source_of_url,
)
from finetune_compat.stacks.project_files.text import LONGEST
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, Kind, Origin
from packaging.specifiers import SpecifierSet
from project_builders import AT, refused

KIND = Kind.REQUIREMENTS


class TestRequirements:
    def test_every_part_of_a_requirement(self) -> None:
        """The name is canonical, and extras are sorted."""
        found = of_requirement("Py_YAML[b,a]==6.0; python_version<'3.12'", AT, KIND, groups=["group dev"])
        assert (found.name, found.version, found.specifier, found.extras) == ("py-yaml", "6.0", "==6.0", ("a", "b"))
        assert (found.marker, found.groups, found.place) == ('python_version < "3.12"', ("group dev",), AT)
        assert (found.source, found.constraint) == (DEFAULT_INDEX, False)

    def test_a_range_has_no_version(self) -> None:
        """Neither has a requirement without a specifier."""
        assert of_requirement("trl>=0.22", AT, KIND).version is None
        found = of_requirement("trl", AT, KIND, constraint=True)
        assert (found.version, found.specifier, found.constraint) == (None, "", True)

    def test_an_address_is_the_source(self) -> None:
        """PEP 508 writes it after the name."""
        found = of_requirement("trl @ git+https://github.com/huggingface/trl@v1", AT, KIND)
        assert (found.source.origin, found.source.address) == (Origin.GIT, "git+https://github.com/huggingface/trl@v1")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("trl==", "'trl==' is not a valid requirement: "),
            ("", "'' is not a valid requirement: "),
            ("trl @ https://me:hunter2hunter2@x.org ==1", "'trl @ https://REDACTED@x.org ==1' is not a valid requirem"),
            ("a" * (LONGEST + 1), "a requirement has more than 20000 characters"),
            (3, "3 is not a requirement, because it is not text"),
        ],
    )
    def test_what_is_no_requirement_is_refused(self, text: str, problem: str) -> None:
        """In one line, without secrets."""
        found = refused(lambda: parsed(text, AT, KIND))
        assert found.startswith(f"file:3: {problem}")
        assert "\n" not in found and "hunter2" not in found


class TestPins:
    def test_a_pin_is_an_exact_version(self) -> None:
        """Also a local one."""
        found = of_pin("Torch", "2.8.0+cu126", AT, KIND, groups=("group dev",))
        assert (found.name, found.version, found.specifier) == ("torch", "2.8.0+cu126", "==2.8.0+cu126")
        assert found.groups == ("group dev",)

    @pytest.mark.parametrize("name", [None, "", "a b", "-a", "ä", "a;b"])
    def test_a_name_is_letters_and_digits(self, name: object) -> None:
        """PEP 508 begins it with one of them."""
        assert refused(lambda: of_pin(name, "1", AT, KIND)) == f"file:3: {name!r} is not the name of a package"

    @pytest.mark.parametrize("version", [None, "", "one", 1, "1.0.x", "1" * (LONGEST + 1)])
    def test_a_version_is_one_of_pep_440(self, version: object) -> None:
        """A lock pins nothing else."""
        assert " is not a version of trl" in refused(lambda: of_pin("trl", version, AT, KIND))

    @pytest.mark.parametrize("text", ["1", "1!2.0", "0.22.2.post1", "1.0rc1", "1.0.dev0", "2.8.0+cu126", "v1.0"])
    def test_forms_of_versions(self, text: str) -> None:
        """Those of PEP 440."""
        assert is_version(text)


@pytest.mark.parametrize(
    ("specifier", "version"),
    [
        ("==1.0", "1.0"),
        ("===1.0", "1.0"),
        ("==1.0,<2", "1.0"),
        ("==1.*", None),
        (">=1.0", None),
        ("==1.0,==2.0", None),
        ("", None),
    ],
)
def test_the_one_version_that_is_accepted(specifier: str, version: str | None) -> None:
    """None if there are several, or none."""
    assert exact(SpecifierSet(specifier)) == version


class TestMarkersAndSpecifiers:
    def test_a_marker_is_written_as_packaging_writes_it(self) -> None:
        """So that equal markers are equal texts."""
        assert checked_marker("python_version<'3.12'", AT, KIND) == 'python_version < "3.12"'

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("python_versio < '3'", "is not valid"),
            (3, "is not text, or is too long"),
            ("(" * 5000, "is not valid"),
            ("a" * (LONGEST + 1), "is not text, or is too long"),
            ("platform_system ~= 'Linux'", "compares what has no order"),
        ],
    )
    def test_what_is_no_marker_is_refused(self, text: object, problem: str) -> None:
        """Also one that is valid and cannot be evaluated."""
        found = refused(lambda: checked_marker(text, AT, KIND))
        assert found.startswith("file:3: the marker ") and problem in found

    def test_a_specifier(self) -> None:
        """Another text is refused."""
        assert SpecifierSet(checked_specifier(">=3.11, <4", AT, KIND)) == SpecifierSet("<4,>=3.11")
        assert checked_specifier("", AT, KIND) == ""
        for text in ("3.11", ">>1", None, "a" * (LONGEST + 1)):
            assert " is not a version specifier: " in refused(lambda text=text: checked_specifier(text, AT, KIND))


class TestSources:
    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("git+ssh://git@x.org/trl", Origin.GIT),
            ("https://x.org/trl.git", Origin.GIT),
            ("https://x.org/trl.git/", Origin.GIT),
            ("file:///home/me/trl", Origin.PATH),
            ("../trl", Origin.PATH),
            ("https://x.org/trl-1-py3-none-any.whl", Origin.URL),
        ],
    )
    def test_the_scheme_tells_the_origin(self, url: str, origin: Origin) -> None:
        """As pip's list of schemes."""
        found = source_of_url(url)
        assert (found.origin, found.secret_address) == (origin, url)

    @pytest.mark.parametrize(
        ("table", "origin", "address"),
        [
            # uv.lock: the commit is the fragment.
            ({"git": "https://x.org/trl?rev=main#0f9ab5d"}, Origin.GIT, "git+https://x.org/trl@0f9ab5d"),
            # pyproject.toml of uv and Poetry, and Pipfile.lock.
            ({"git": "https://x.org/trl", "rev": "0f9ab5d"}, Origin.GIT, "git+https://x.org/trl@0f9ab5d"),
            ({"git": "https://x.org/trl", "tag": "v1"}, Origin.GIT, "git+https://x.org/trl@v1"),
            ({"git": "https://x.org/trl", "branch": "main"}, Origin.GIT, "git+https://x.org/trl@main"),
            ({"git": "https://x.org/trl.git", "ref": "abc"}, Origin.GIT, "git+https://x.org/trl.git@abc"),
            ({"git": "https://x.org/trl"}, Origin.GIT, "git+https://x.org/trl"),
            # pdm.lock.
            ({"git": "https://x.org/trl", "ref": "v1", "revision": "ab"}, Origin.GIT, "git+https://x.org/trl@ab"),
            ({"editable": "../ours"}, Origin.PATH, "../ours"),
            ({"virtual": "."}, Origin.PATH, "."),
            ({"path": "./ours", "editable": True}, Origin.PATH, "./ours"),
            ({"directory": "../ours"}, Origin.PATH, "../ours"),
            ({"url": "https://x.org/a.whl"}, Origin.URL, "https://x.org/a.whl"),
            ({"workspace": True}, Origin.PATH, "."),
            ({"registry": "https://pypi.org/simple"}, Origin.INDEX, "https://pypi.org/simple"),
            ({"index": "pytorch"}, Origin.INDEX, "pytorch"),
            ({}, Origin.INDEX, ""),
        ],
    )
    def test_tables_of_the_tools(self, table: dict[str, object], origin: Origin, address: str) -> None:
        """A commit precedes the branch or tag that was asked for."""
        found = source_of_table(table)
        assert (found.origin, found.secret_address) == (origin, address)

    @pytest.mark.parametrize(
        ("address", "found"),
        [
            ("git+https://x.org/trl@v1#egg=TRL", ("trl", None)),
            ("git+https://x.org/mono@v1#subdirectory=a&egg=my_pkg[dev]", ("my-pkg", None)),
            ("git+https://x.org/trl#egg=trl==1.0", ("trl", None)),
            ("https://x.org/torch-2.8.0%2Bcu126-cp311-cp311-linux_x86_64.whl", ("torch", "2.8.0+cu126")),
            ("./vendor/my_pkg-0.1-py3-none-any.whl", ("my-pkg", "0.1")),
            ("https://x.org/trl-1.0.tar.gz", ("", None)),
            ("../ours", ("", None)),
            ("git+https://github.com/huggingface/transformers.git@v4.56.2", ("transformers", None)),
            ("git+ssh://git@github.com/bitsandbytes-foundation/bitsandbytes", ("bitsandbytes", None)),
            ("https://github.com/huggingface/peft/archive/refs/tags/v0.17.1.zip", ("peft", None)),
            ("git+https://github.com/huggingface/datasets-server", ("", None)),
            ("git+https://github.com/ours/trl", ("", None)),
            ("https://x.org/odd.whl", ("", None)),
        ],
    )
    def test_an_address_may_name_its_package(self, address: str, found: tuple[str, str | None]) -> None:
        """In the fragment of pip, in the name of a wheel (PEP 427), or as a repository that everybody installs from."""
        assert of_address(address) == found
