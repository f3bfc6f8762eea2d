"""pyproject.toml: the tables of PEP 621 and PEP 735, and those of uv, Poetry and PDM."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.stacks.project_files.pyproject import read
from finetune_compat.stacks.project_files.text import read_text, read_toml
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Project
from packaging.specifiers import SpecifierSet
from project_builders import refused, shown, text


def project(content: str) -> Project:
    """What a file with this content names."""
    of = text(content)
    return read(of, read_toml(of, Kind.PYPROJECT))


def package(content: str) -> Package:
    """The one package of a file."""
    (found,) = project(content).packages
    return found


class TestStandard:
    def test_dependencies_and_extras(self) -> None:
        """PEP 621. An extra of the project itself stands for the packages of that extra."""
        found = project(
            '[project]\nname = "Ours"\nrequires-python = ">=3.11"\ndependencies = ["trl==0.22.2"]\n'
            '[project.optional-dependencies]\nquant = ["bitsandbytes"]\nall = ["ours[quant]", "wandb"]\n'
        )
        assert (found.kind, found.requires_python) == (Kind.PYPROJECT, ">=3.11")
        assert shown(found) == [
            "trl==0.22.2 on 4",
            "bitsandbytes on 6 in extra quant",
            "wandb on 7 in extra all",
        ]

    def test_groups_include_groups(self) -> None:
        """PEP 735. Each group has all of its packages."""
        found = project('[dependency-groups]\ntest = ["pytest>=8"]\ndev = ["ruff", {include-group = "test"}]\n')
        assert {(item.name, item.groups) for item in found.packages} == {
            ("pytest", ("group test",)),
            ("pytest", ("group dev",)),
            ("ruff", ("group dev",)),
        }
        assert {str(item) for item in found.packages} == {"pytest>=8", "ruff"}

    @pytest.mark.parametrize(
        "group",
        ['[{include-group = "dev"}]', '[{include-group = "gone"}]', '[{include = "test"}]', '["trl=="]', "3"],
    )
    def test_an_invalid_group_is_refused(self, group: str) -> None:
        """One that includes itself or nothing, or is no list of requirements."""
        assert refused(lambda: project(f"[dependency-groups]\ndev = {group}\n")).startswith("file:2: ")

    @pytest.mark.parametrize("stated", ['"base.txt"', '["base.txt", "more.txt"]'])
    def test_dynamic_dependencies_are_those_of_files(self, tmp_path: Path, stated: str) -> None:
        """setuptools names one file or several."""
        (tmp_path / "base.txt").write_text("trl\n")
        (tmp_path / "more.txt").write_text("peft\n--pre\n")
        file = tmp_path / "pyproject.toml"
        file.write_text(
            f'[project]\ndynamic = ["dependencies"]\n[tool.setuptools.dynamic]\ndependencies = {{file = {stated}}}\n'
        )
        of = read_text(file)
        found = read(of, read_toml(of, Kind.PYPROJECT))
        several = "more" in stated
        assert [item.name for item in found.packages] == ["trl", *(["peft"] if several else [])]
        assert [item.what for item in found.unread] == (["--pre"] if several else [])

    def test_dynamic_dependencies_of_other_backends_are_named(self) -> None:
        """Code computes them."""
        found = project('[project]\ndynamic = ["version", "dependencies"]\n')
        assert list(map(str, found.unread)) == ["dependencies: dynamic: the build backend computes them"]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ('[project]\ndependencies = "trl"\n', "file:2: dependencies is 'trl' and not a list of requirements"),
            ("[project]\ndependencies = [1]\n", "file:2: dependencies is [1] and not a list of requirements"),
            ('[project]\ndependencies = [\n"peft",\n"trl=="]\n', "file:4: 'trl==' is not a valid requirement: "),
            ("project = 1\n", "file: project is 1 and not a table"),
            ('[project]\nrequires-python = "3.11"\n', "file:2: '3.11' is not a version specifier: "),
            ("[tool.ruff]\nline-length = 100\n", "file: it names no packages"),
        ],
    )
    def test_what_is_not_as_its_standard_says_is_refused(self, content: str, problem: str) -> None:
        """At its line."""
        assert refused(lambda: project(content)).startswith(problem)

    def test_a_project_may_have_no_packages(self) -> None:
        """It has a place for them."""
        assert project('[project]\nname = "x"\n').packages == ()

    @pytest.mark.parametrize("tool", ["pixi", "conda-lock"])
    def test_packages_of_conda_are_named(self, tool: str) -> None:
        """Those tools write their tables here."""
        found = project(f'[project]\nname = "x"\n[tool.{tool}]\nchannels = []\n')
        assert [(item.what, item.place.line) for item in found.unread] == [(f"[tool.{tool}]", 3)]


class TestUv:
    def test_development_dependencies_and_limits(self) -> None:
        """Constraints and overrides are not installed."""
        found = project(
            '[tool.uv]\ndev-dependencies = ["ipython"]\nconstraint-dependencies = ["numpy<2"]\n'
            'override-dependencies = ["torch==2.8.0"]\n'
        )
        assert shown(found) == [
            "ipython on 2 in group dev",
            "numpy<2 on 3 only a limit",
            "torch==2.8.0 on 4 only a limit",
        ]
        assert [item.name for item in found.packages if item.override] == ["torch"]

    def test_members_of_a_workspace_are_followed(self, tmp_path: Path) -> None:
        """uv installs what they need. A member finds the others through the root above it."""
        projects = {".": ("root", "pkg-a"), "packages/a": ("Pkg_A", "pkg-b"), "packages/b": ("pkg-b", "trl")}
        for folder, (name, needs) in projects.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "pyproject.toml").write_text(
                f'[project]\nname = "{name}"\ndependencies = ["{needs}"]\n'
                + ('[tool.uv.workspace]\nmembers = ["packages/*"]\n' if folder == "." else "")
                + (f"[tool.uv.sources]\n{needs} = {{workspace = true}}\n" if needs != "trl" else "")
            )
        for folder, names in ((".", ["pkg-a", "pkg-b", "trl"]), ("packages/a", ["pkg-b", "trl"])):
            of = read_text(tmp_path / folder / "pyproject.toml")
            assert sorted(item.name for item in read(of, read_toml(of, Kind.PYPROJECT)).packages) == names

    def test_a_path_source_is_followed_for_its_group_and_marker(self, tmp_path: Path) -> None:
        """Two projects that name each other end."""
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "pyproject.toml").write_text(
            '[project]\nname = "lib"\ndependencies = ["peft ; python_version < \'3.13\'", "top"]\n'
            '[project.optional-dependencies]\ntrain = ["trl"]\ndocs = ["furo"]\n'
            '[tool.uv.sources]\ntop = {path = ".."}\n'
        )
        (tmp_path / "pyproject.toml").write_text(
            '[project]\nname = "top"\n[dependency-groups]\n'
            "gpu = [\"lib[train] ; sys_platform == 'linux'\"]\n"
            '[tool.uv.sources]\nlib = {path = "lib"}\n'
        )
        of = read_text(tmp_path / "pyproject.toml")
        found = {item.name: item for item in read(of, read_toml(of, Kind.PYPROJECT)).packages}
        assert {"lib", "peft", "trl", "furo"} - found.keys() == {"furo"}
        assert (found["trl"].groups, found["trl"].marker) == (("group gpu",), '(sys_platform == "linux")')
        assert found["peft"].marker == '(sys_platform == "linux") and (python_version < "3.13")'

    @pytest.mark.parametrize(
        ("source", "origin", "address"),
        [
            ('{git = "https://x.org/trl", rev = "ab12"}', Origin.GIT, "git+https://x.org/trl@ab12"),
            ('{path = "../trl", editable = true}', Origin.PATH, "../trl"),
            ('{url = "https://x.org/trl.whl"}', Origin.URL, "https://x.org/trl.whl"),
            ("{workspace = true}", Origin.PATH, "."),
            ('{index = "ours"}', Origin.INDEX, "https://x.org/simple"),
            ('{index = "gone"}', Origin.INDEX, "gone"),
            ('[{index = "ours", marker = "1"}, {path = "."}]', Origin.INDEX, "https://x.org/simple"),
        ],
    )
    def test_a_source_is_stated_apart(self, source: str, origin: Origin, address: str) -> None:
        """Under any spelling of the name. The index is named once."""
        found = package(
            f'[project]\ndependencies = ["my-trl"]\n[tool.uv.sources]\nMy_TRL = {source}\n'
            '[[tool.uv.index]]\nname = "ours"\nurl = "https://x.org/simple"\n'
        )
        assert (found.source.origin, found.source.address) == (origin, address)

    def test_an_address_in_the_requirement_comes_first(self) -> None:
        """uv refuses both; pip knows only that one."""
        found = package(
            '[project]\ndependencies = ["trl @ https://x.org/trl.whl"]\n[tool.uv.sources]\ntrl = {path = "."}\n'
        )
        assert found.source.address == "https://x.org/trl.whl"

    def test_another_index_is_named(self) -> None:
        """Packages come from the default one."""
        found = project('[tool.uv]\ndev-dependencies = []\n[[tool.uv.index]]\nurl = "https://me:secretsecret@x.org"\n')
        assert [(item.what, item.place.line) for item in found.unread] == [("https://REDACTED@x.org", 3)]


class TestPoetry:
    @pytest.mark.parametrize(
        ("stated", "specifier", "more"),
        [
            ('"^0.22"', ">=0.22,<0.23", {}),
            ('"~1.2"', ">=1.2,<1.3", {}),
            ('"*"', "", {}),
            ('{version = "0.22.2", extras = ["vllm", "peft"]}', "==0.22.2", {"extras": ("peft", "vllm")}),
            ('{version = "*", optional = true}', "", {"groups": ("an extra",)}),
            ('{version = "*", platform = "linux"}', "", {"marker": 'sys_platform == "linux"'}),
            ('{version = "*", markers = "os_name == \'posix\'"}', "", {"marker": 'os_name == "posix"'}),
            ('{version = "*", python = "<3.12"}', "", {"marker": 'python_full_version < "3.12"'}),
        ],
    )
    def test_an_entry(self, stated: str, specifier: str, more: dict[str, object]) -> None:
        """A caret allows what does not change the first digit that is not 0; a tilde allows patches."""
        found = package(f'[tool.poetry.dependencies]\npython = ">=3.11"\ntrl = {stated}\n')
        assert SpecifierSet(found.specifier) == SpecifierSet(specifier)
        fields = {"extras": (), "groups": (), "marker": "", **more}
        assert {name: getattr(found, name) for name in fields} == fields
        assert found.place.line == 3

    def test_several_entries_for_one_package(self) -> None:
        """One for each platform."""
        found = project(
            '[tool.poetry.dependencies]\ntrl = [{version = "1.0", platform = "linux"}, {version = "2.0"}]\n'
        )
        assert shown(found) == ['trl==1.0 on 2 if sys_platform == "linux"', "trl==2.0 on 2"]

    def test_groups_and_extras(self) -> None:
        """An extra names packages that are stated as optional; the older table is the group dev."""
        found = project(
            '[tool.poetry.dependencies]\nMy_Bits = {version = "*", optional = true}\n'
            '[tool.poetry.extras]\nquant = ["my-bits"]\nall = ["my-bits"]\n'
            '[tool.poetry.dev-dependencies]\nruff = "*"\n[tool.poetry.group.test.dependencies]\npytest = "*"\n'
        )
        assert shown(found) == [
            "my-bits on 2 in extra quant, extra all",
            "ruff on 7 in group dev",
            "pytest on 9 in group test",
        ]

    def test_with_a_standard_table_its_own_adds_nothing(self) -> None:
        """Poetry 2 reads [project]."""
        found = project('[project]\ndependencies = ["trl"]\n[tool.poetry.dependencies]\ntrl = {source = "x"}\n')
        assert shown(found) == ["trl on 2"]

    def test_an_index_is_named_by_its_sources(self) -> None:
        """The address is stated once."""
        found = package(
            '[tool.poetry.dependencies]\ntrl = {version = "*", source = "ours"}\n'
            '[[tool.poetry.source]]\nname = "ours"\nurl = "https://x.org/simple"\n'
        )
        assert (found.source.origin, found.source.address) == (Origin.INDEX, "https://x.org/simple")

    def test_a_range_that_pep_440_has_not_is_named(self) -> None:
        """The package is read with any version."""
        found = project('[tool.poetry.dependencies]\ntrl = "0.21.0 || 0.23.0"\n')
        assert shown(found) == ["trl on 2"]
        assert list(map(str, found.unread)) == ["trl 0.21.0 || 0.23.0: PEP 440 has no such range"]

    def test_the_python_is_a_dependency(self) -> None:
        """[project] comes first."""
        poetry = '[tool.poetry.dependencies]\npython = "^3.11"\n'
        assert SpecifierSet(project(poetry).requires_python) == SpecifierSet(">=3.11,<4")
        assert project(f'[project]\nrequires-python = ">=3.12"\n{poetry}').requires_python == ">=3.12"

    def test_an_entry_that_is_none_is_refused(self) -> None:
        """Neither text nor a table."""
        assert refused(lambda: project("[tool.poetry.dependencies]\ntrl = 3\n")) == "file:2: the entry of trl is 3"


def test_pdm_has_groups_without_editable_folders() -> None:
    """Those are no requirements."""
    found = project('[tool.pdm.dev-dependencies]\ntest = ["pytest", "-e file:///home/me/ours#egg=ours"]\n')
    assert shown(found) == ["pytest on 2 in group test"]
