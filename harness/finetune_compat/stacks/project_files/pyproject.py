"""pyproject.toml: PEP 621, dependency groups (PEP 735), and the tables of uv, Poetry and PDM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files import requirements_txt
from finetune_compat.stacks.project_files.entries import (
    checked_marker,
    checked_specifier,
    first_line,
    of_requirement,
    source_of_table,
)
from finetune_compat.stacks.project_files.poetry_versions import python_specifier, specifier_of
from finetune_compat.stacks.project_files.tables import strings, table_of
from finetune_compat.stacks.project_files.text import Text, broken, quoted, read_text, read_toml
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Place, Project, Source, Unread, unread

_KIND = Kind.PYPROJECT
_CONDA_TOOLS = ("pixi", "conda-lock")
_MOST_MEMBERS = 1000
"""Maximum number of folders that a pattern of a workspace is followed into. The largest workspaces have 100."""


def read(text: Text, raw: Mapping[str, Any], inside: requirements_txt.Found | None = None) -> Project:
    """The packages that the project names, with those of its extras and groups.

    `inside` is the requirements file that names the project, whose files are not read again.

    Raises:
        ProjectFileError: a table is not what its standard says, or names no packages.
    """
    file = _File(text, raw, inside)
    packages = [*file.standard(), *file.grouped(), *file.uv(), *file.poetry(), *file.pdm()]
    sourced = [file.with_source(item) for item in packages]
    sourced += list(file.below(sourced))
    if inside is None and not file.states_packages():
        raise ProjectFileError(
            "it names no packages",
            where=str(text.path),
            meaning="It has neither [project], [dependency-groups] nor a table of uv, Poetry or PDM with packages.",
            todo="Name the project's requirements.txt, environment.yml or lock file.",
        )
    return Project(_KIND, text.path, tuple(sourced), tuple(file.unread), file.requires_python())


class _File:
    """A pyproject.toml, and what of it is not read."""

    def __init__(self, text: Text, raw: Mapping[str, Any], inside: requirements_txt.Found | None) -> None:
        self.text, self.raw, self.inside = text, raw, inside
        self.unread: list[Unread] = []
        self.project = self._table(raw, "project")
        self.tool = self._table(raw, "tool")
        poetry = self._table(self.tool, "poetry")
        self.own = canonicalize_name(str(self.project.get("name") or poetry.get("name") or ""))
        for tool in _CONDA_TOOLS:
            if tool in self.tool:
                place = text.place(text.find(f"[tool.{tool}"))
                self.unread.append(
                    unread(f"[tool.{tool}]", "packages of conda and of pip that another tool resolves together", place)
                )

    def _table(self, raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        return table_of(raw, key, self.text.place(self.text.find(f"[{key}")), _KIND)

    def states_packages(self) -> bool:
        """Whether it has a place for packages, even an empty one."""
        tables = ("uv", "poetry", "pdm")
        return bool(self.project or "dependency-groups" in self.raw or any(name in self.tool for name in tables))

    def requires_python(self) -> str:
        """The specifier for Python."""
        line = self.text.key("requires-python")
        if stated := self.project.get("requires-python"):
            return checked_specifier(stated, self.text.place(line), _KIND)
        poetry = self._table(self._table(self.tool, "poetry"), "dependencies")
        return python_specifier(poetry.get("python", ""), self.text.place(self.text.key("python")), _KIND)

    # ------------------------------------------------------------------------------------------- requirements as text

    def _listed(self, listed: Any, key: str, group: str = "", *, constraint: bool = False) -> Iterator[Package]:
        top = self.text.key(key)
        if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
            raise broken(_KIND, self.text.place(top), f"{key} is {quoted(listed)} and not a list of requirements")
        for item in listed:
            found = of_requirement(
                item, self._place_of(item, top), _KIND, groups=(group,) if group else (), constraint=constraint
            )
            if found.name != self.own:  # an extra of the project itself, whose packages stand in its own list
                yield found

    def _place_of(self, item: str, after: int) -> Place:
        written = (f'"{item}"', f"'{item}'")
        return self.text.place(self.text.find(*written, after=max(after - 1, 0)) or self.text.find(*written) or after)

    def standard(self) -> Iterator[Package]:
        """[project]."""
        yield from self._listed(self.project.get("dependencies", ()), "dependencies")
        for extra, listed in self._table(self.project, "optional-dependencies").items():
            yield from self._listed(listed, extra, f"extra {extra}")
        dynamic = strings(self.project, "dynamic", self.text.place(self.text.key("dynamic")), _KIND)
        if "dependencies" in dynamic:
            yield from self._dynamic()

    def _dynamic(self) -> Iterator[Package]:
        """The files that setuptools reads the dependencies from. Other build backends compute them by code."""
        stated = self._table(self._table(self._table(self.tool, "setuptools"), "dynamic"), "dependencies").get("file")
        files = [stated] if isinstance(stated, str) else stated
        place = self.text.place(self.text.key("dynamic"))
        if not isinstance(files, list) or not files:
            self.unread.append(unread("dependencies", "dynamic: the build backend computes them", place))
            return
        found = requirements_txt.Found(done=self.inside.done if self.inside else set())
        for file in files:
            path = self.text.path.parent / str(file)
            if (path.resolve(), False) not in found.done:
                found.take(read_text(path))
        self.unread += found.unread
        yield from found.packages

    def grouped(self) -> Iterator[Package]:
        """[dependency-groups], with the groups that they include."""
        groups = self._table(self.raw, "dependency-groups")
        if not groups:
            return
        from packaging.dependency_groups import DependencyGroupResolver

        top = self.text.find("[dependency-groups")
        for group in groups:
            try:
                found = DependencyGroupResolver(groups).resolve(group)
            except Exception as error:  # noqa: BLE001 - an ExceptionGroup, or one of several classes of packaging
                problem = next(iter(getattr(error, "exceptions", ())), error)
                raise broken(_KIND, self.text.place(self.text.key(group, after=top)), first_line(problem)) from None
            here = self.text.key(group, after=top)
            for item in found:
                package = of_requirement(str(item), self.text.place(here), _KIND, groups=(f"group {group}",))
                if package.name != self.own:
                    yield replace(package, place=self.text.place(self._line_of(package.name, here - 1) or here))

    def _line_of(self, name: str, after: int) -> int:
        """The first line after a header that states a requirement on this package."""
        begins = tuple(f"{quote}{spelled}" for quote in "\"'" for spelled in (name, name.replace("-", "_")))
        return self.text.find(*begins, after=max(after, 0))

    # ---------------------------------------------------------------------------------------------------------- tools

    def uv(self) -> Iterator[Package]:
        """[tool.uv]: older development dependencies, constraints and overrides."""
        uv = self._table(self.tool, "uv")
        yield from self._listed(uv.get("dev-dependencies", ()), "dev-dependencies", "group dev")
        yield from self._listed(uv.get("constraint-dependencies", ()), "constraint-dependencies", constraint=True)
        for item in self._listed(uv.get("override-dependencies", ()), "override-dependencies", constraint=True):
            yield replace(item, override=True)
        self._name_indexes(uv.get("index"), "[[tool.uv.index]]")

    def _name_indexes(self, indexes: Any, header: str) -> None:
        for item in indexes if isinstance(indexes, list) else ():
            if isinstance(item, Mapping) and "url" in item:
                reason = "another index; packages come from the default index"
                self.unread.append(unread(str(item["url"]), reason, self.text.place(self.text.find(header))))

    def with_source(self, package: Package) -> Package:
        """A package with its entry in [tool.uv.sources]. Of several, one for each marker, the first counts."""
        sources = self._table(self._table(self.tool, "uv"), "sources")
        stated = next((item for name, item in sources.items() if canonicalize_name(name) == package.name), None)
        if isinstance(stated, list) and stated:
            stated = stated[0]
        if not isinstance(stated, Mapping) or package.source.origin is not Origin.INDEX:
            return package
        source = source_of_table(stated)
        if stated.get("workspace"):
            return replace(package, source=Source(Origin.PATH, self._member(package.name)))
        if source.origin is Origin.INDEX:
            listed = self._table(self.tool, "uv").get("index")
            urls = (
                {i.get("name"): str(i.get("url", "")) for i in listed if isinstance(i, Mapping)}
                if isinstance(listed, list)
                else {}
            )
            source = Source(Origin.INDEX, urls.get(stated.get("index"), str(stated.get("index", ""))))
        return replace(package, source=source)

    def below(self, packages: Sequence[Package]) -> Iterator[Package]:
        """What the projects in other folders need that this one names: members of its workspace, and paths."""
        inside = self.inside or requirements_txt.Found(done={(self.text.path.resolve(), False)})
        for item in packages:
            if item.source.origin is Origin.PATH:
                extras = f"[{','.join(item.extras)}]" if item.extras else ""
                for found in inside.project(item.source.secret_address + extras, self.text.path.parent) or ():
                    both = " and ".join(f"({marker})" for marker in (item.marker, found.marker) if marker)
                    yield replace(found, groups=item.groups, marker=both)

    def _member(self, name: str) -> str:
        """The folder of a member of the uv workspace around this project; `.` if there is none of this name."""
        for root in (self.text.path.parent.resolve(), *self.text.path.resolve().parents[1:]):
            file = root / "pyproject.toml"
            raw = read_toml(read_text(file), _KIND) if file.is_file() else {}
            workspace = self._table(self._table(self._table(raw, "tool"), "uv"), "workspace")
            for pattern in strings(workspace, "members", Place(str(file)), _KIND):
                for folder in islice(_matching(root, pattern), _MOST_MEMBERS):
                    if _name_of(folder) == name:
                        return str(folder)
            if workspace:
                break
        return "."

    def pdm(self) -> Iterator[Package]:
        """[tool.pdm]: development dependencies, and overrides, whose values are versions or specifiers."""
        pdm = self._table(self.tool, "pdm")
        for group, listed in self._table(pdm, "dev-dependencies").items():
            yield from self._listed(
                [item for item in listed if not str(item).startswith("-e")], group, f"group {group}"
            )
        for name, stated in self._table(self._table(pdm, "resolution"), "overrides").items():
            text = str(stated)
            item = f"{name} @ {text}" if "://" in text else f"{name}{text if text[:1] in '<>=!~' else f'=={text}'}"
            (found,) = self._listed([item], name, constraint=True)
            yield replace(found, override=True)
        self._name_indexes(pdm.get("source"), "[[tool.pdm.source]]")

    def poetry(self) -> Iterator[Package]:
        """[tool.poetry]: dependencies, groups and extras. With [project], its entries only add sources."""
        poetry = self._table(self.tool, "poetry")
        extras: dict[str, list[str]] = {}
        for extra, names in self._table(poetry, "extras").items():
            for name in names if isinstance(names, list) else ():
                extras.setdefault(canonicalize_name(str(name)), []).append(f"extra {extra}")
        if not self.project.get("dependencies"):
            yield from self._poetry_table(self._table(poetry, "dependencies"), "tool.poetry.dependencies", (), extras)
        yield from self._poetry_table(
            self._table(poetry, "dev-dependencies"), "tool.poetry.dev-dependencies", ("group dev",), {}
        )
        for group, table in self._table(poetry, "group").items():
            listed = self._table(table if isinstance(table, Mapping) else {}, "dependencies")
            yield from self._poetry_table(listed, f"tool.poetry.group.{group}.dependencies", (f"group {group}",), {})
        self._name_indexes(poetry.get("source"), "[[tool.poetry.source]]")

    def _poetry_table(
        self, listed: Mapping[str, Any], table: str, groups: tuple[str, ...], extras: Mapping[str, Sequence[str]]
    ) -> Iterator[Package]:
        top = self.text.find(f"[{table}]")
        for name, stated in listed.items():
            if name == "python":
                continue
            place = self.text.place(self.text.key(name, after=top))
            # A list has one entry for each platform or Python version.
            for one in stated if isinstance(stated, list) else [stated]:
                entry = {"version": one} if isinstance(one, str) else one
                if not isinstance(entry, Mapping):
                    raise broken(_KIND, place, f"the entry of {name} is {quoted(one)}")
                brought = groups or tuple(extras.get(canonicalize_name(name), ()))
                if entry.get("optional") is True and not brought:
                    brought = ("an extra",)
                yield from self._poetry_entry(name, entry, place, brought)

    def _poetry_entry(
        self, name: str, entry: Mapping[str, Any], place: Place, groups: tuple[str, ...]
    ) -> Iterator[Package]:
        specifier = specifier_of(entry.get("version", "*"), place, _KIND)
        if specifier is None:
            self.unread.append(unread(f"{name} {entry.get('version')}", "PEP 440 has no such range", place))
        markers = [f"({entry['markers']})"] if entry.get("markers") else []
        if entry.get("platform"):
            markers.append(f"sys_platform == {entry['platform']!r}")
        if entry.get("python"):
            markers += [
                f"python_full_version {item.operator} '{item.version}'"
                for item in _specifiers(python_specifier(entry["python"], place, _KIND))
            ]
        marker = " and ".join(markers)
        package = of_requirement(f"{name}{specifier or ''}", place, _KIND, groups=groups)
        source = source_of_table(entry, index=())
        if source.origin is Origin.INDEX and isinstance(entry.get("source"), str):
            source = Source(Origin.INDEX, self._poetry_index(entry["source"]))
        yield replace(
            package,
            marker=checked_marker(marker, place, _KIND) if marker else "",
            extras=tuple(sorted(strings(entry, "extras", place, _KIND))),
            source=source,
        )

    def _poetry_index(self, name: str) -> str:
        listed = self._table(self.tool, "poetry").get("source")
        urls = [i for i in listed if isinstance(i, Mapping)] if isinstance(listed, list) else []
        return next((str(item.get("url", name)) for item in urls if item.get("name") == name), name)


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    """The folders that match a pattern below `root`; none if the pattern is empty or absolute."""
    with contextlib.suppress(ValueError, NotImplementedError):
        yield from root.glob(pattern)


def _name_of(folder: Path) -> str:
    """The canonical name of the project in a folder; empty if it states none."""
    file = folder / "pyproject.toml"
    project = read_toml(read_text(file), _KIND).get("project") if file.is_file() else None
    return canonicalize_name(str(project.get("name", ""))) if isinstance(project, Mapping) else ""


def _specifiers(text: str) -> Iterator[Any]:
    from packaging.specifiers import SpecifierSet

    yield from SpecifierSet(text)
