"""`Registry`: names of things that are imported when they are asked for, open to other packages.

>>> passes = Registry("pass", "optkit.passes", {"prune": "optkit.passes.prune:Prune"})
>>> list(passes), passes["prune"].name()
(['prune'], 'prune')
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Generic, TypeVar, cast

from optkit.errors import RecipeError, did_you_mean

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name → object. Listing names imports nothing; `registry[name]` imports one module.

    `what` is the word for one of them in an error, `group` the entry points by which an installed package
    adds its own (which replace none of `targets`), `targets` maps a name to "module:object".
    """

    def __init__(self, what: str, group: str, targets: Mapping[str, str]) -> None:
        self.what, self.group, self.built_in = what, group, dict(targets)

    def __getitem__(self, name: str) -> T:
        """The object called `name`. RecipeError names the nearest name; an import error is not swallowed."""
        if name not in self:
            raise RecipeError(f"Unknown {self.what} {name!r}.", hint=did_you_mean(str(name), self))
        module, _, attribute = (self.built_in.get(name) or self._installed[name]).partition(":")
        imported = import_module(module)
        return cast(T, getattr(imported, attribute) if attribute else imported)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.built_in or name in self._installed)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._installed | self.built_in))

    def __len__(self) -> int:
        return len(self._installed | self.built_in)

    @cached_property
    def _installed(self) -> dict[str, str]:
        """Read once, and only where a name is not built in: it takes .1 s where much is installed."""
        from importlib.metadata import entry_points

        return {point.name: point.value for point in entry_points(group=self.group)}
