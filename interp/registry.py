"""One small registry for everything that is one file in one folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar

from interp.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Name → instance, filled by the modules of one package when it is first asked.

    Args:
        kind: What is registered, for error messages: `site`, `reduction`, ….
        package: Package whose modules register themselves when they are imported.
    """

    def __init__(self, *, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name`; the last line of each file of the package calls this."""
        if name in self._entries:
            raise ValueError(f"{self._kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            UnknownName: with the names that there are.
        """
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(f"no {self._kind} {name!r}; there are: {', '.join(self.names())}") from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[T]:
        self._load()
        return iter([self._entries[name] for name in self.names()])

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._load()
        return sorted(self._entries)

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = True
