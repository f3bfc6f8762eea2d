"""Layers that are alike: leave one of them in the model, and note which layers it represents.

Two children of a module list are alike if their modules have the same classes, their parameters have the same names and
shapes, and the caller does not distinguish them. Nothing is assumed about a model: if all children of a list differ,
none is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Layout:
    """By path of each thinned module list: the remaining children, and the indices that each represents."""

    kept: Mapping[str, Mapping[str, tuple[int, ...]]]

    def times(self, name: str) -> int:
        """Number of modules or parameters of the whole model that the one called `name` represents."""
        times = 1
        for path, children in self.kept.items():
            if name.startswith(f"{path}."):
                times *= len(children[name[len(path) + 1 :].partition(".")[0]])
        return times

    def path(self, name: str) -> str:
        """`name` with the indices that it represents, for example `model.layers.[0-27].mlp`."""
        parts = name.split(".")
        shown = list(parts)
        for place in range(1, len(parts)):
            children = self.kept.get(".".join(parts[:place]), {})
            if parts[place] in children:
                shown[place] = _ranges(children[parts[place]])
        return ".".join(shown)


def _ranges(indices: tuple[int, ...]) -> str:
    if len(indices) == 1:
        return str(indices[0])
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return f"[{','.join(str(run[0]) if len(run) == 1 else f'{run[0]}-{run[-1]}' for run in runs)}]"


def thin(model: nn.Module, told_apart: Callable[[str], Hashable]) -> Layout:
    """Remove from every module list of `model` all children but one of each kind.

    Args:
        model: the model that is changed.
        told_apart: returns, for the name of a module or parameter, a value that is equal if two of them are alike.
    """
    whole = sum(parameter.numel() for parameter in model.parameters())
    layout = Layout(_kept(model, told_apart))
    standing = sum(p.numel() * layout.times(name) for name, p in model.named_parameters() if _is_kept(layout, name))
    if standing != whole:
        # Layers share parameters: one of them cannot represent several, and nothing is removed.
        return Layout({})
    for path, children in layout.kept.items():
        modules = model.get_submodule(path)._modules
        for index in [index for index in modules if index not in children]:
            del modules[index]
    return layout


def _is_kept(layout: Layout, name: str) -> bool:
    return all(
        name[len(path) + 1 :].partition(".")[0] in children
        for path, children in layout.kept.items()
        if name.startswith(f"{path}.")
    )


def _kept(model: nn.Module, told_apart: Callable[[str], Hashable]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The children that `thin` leaves in each list. Lists inside a removed child are left out."""
    numbers: dict[Hashable, int] = {}
    kinds: dict[str, dict[str, int]] = {}

    def kind_of(path: str, module: nn.Module) -> int:
        """A number that is equal for two modules if they are alike."""
        prefix = f"{path}." if path else ""
        own = tuple((n, p.shape, told_apart(prefix + n)) for n, p in module._parameters.items() if p is not None)
        parts = {n: kind_of(prefix + n, child) for n, child in module._modules.items() if child is not None}
        if isinstance(module, nn.ModuleList):
            kinds[path] = parts
        print_ = (type(module), told_apart(path), own, tuple(parts.items()))
        return numbers.setdefault(print_, len(numbers))

    kind_of("", model)
    kept: dict[str, dict[str, tuple[int, ...]]] = {}
    for path in sorted(kinds, key=lambda path: path.count(".")):
        if _is_kept(Layout(kept), path):
            kept[path] = _by_kind(kinds[path])
    return {path: children for path, children in kept.items() if len(children) < len(kinds[path])}


def _by_kind(kinds: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    members: dict[int, list[int]] = {}
    for index, kind in kinds.items():
        members.setdefault(kind, []).append(int(index))
    return {str(indices[0]): tuple(indices) for indices in members.values()}
