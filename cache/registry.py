"""One class behind datasets, encoders and heads: a name is a file, and is imported only when asked for.

``Registry("head", "fuse.heads")`` knows ``jca`` because ``fuse/heads/jca.py`` exists; that file registers its
class with ``@HEADS.register("jca")``. Listing names imports nothing, so the command line starts fast.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from cache.errors import AffuseError, DataError, MissingData, UnknownName

T = TypeVar("T")
_PLUGIN = "affuse_plugin_"  # and the file's name: the module that it becomes
_registries: list["Registry[Any]"] = []


def suggest(name: str, known: list[str]) -> str:
    """``did you mean 'jca'?`` where a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def names_of(package: str) -> list[str]:
    """Names that the files of a package stand for, sorted, read from its folder without importing it."""
    spec = importlib.util.find_spec(package)
    path = spec.submodule_search_locations if spec else None
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))


class Registry(Generic[T]):
    """Names of one kind, each a module of ``package`` (underscores as hyphens) or a plugin's class."""

    def __init__(self, kind: str, package: str, aliases: dict[str, str] | None = None) -> None:
        self.kind = kind
        self.package = package
        self.aliases = aliases or {}
        self._classes: dict[str, type[T]] = {}
        _registries.append(self)

    def names(self) -> list[str]:
        """All names, sorted, without importing any of them."""
        return sorted({*names_of(self.package), *self._classes})

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Raises DataError when the name is another class's, or that of a file of the package."""

        def add(cls: type[T]) -> type[T]:
            taken = self._classes.get(name)
            outside = not cls.__module__.startswith(f"{self.package}.")
            if outside and name in {*names_of(self.package), *self.aliases}:
                raise DataError(f"{self.kind} {name!r} is one of {self.package}", hint="choose another name")
            if taken is not None and taken.__qualname__ != cls.__qualname__:
                raise DataError(
                    f"{self.kind} {name!r} is already {taken.__module__}.{taken.__qualname__}",
                    hint="choose another name",
                )
            self._classes[name] = cls
            return cls

        return add

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UnknownName with the legal names and the nearest one."""
        name = self.aliases.get(name, name)
        if name not in self._classes and name in self.names():
            importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
        if name not in self._classes:
            names = self.names()
            raise UnknownName(f"unknown {self.kind} {name!r}; there are: {', '.join(names)}", hint=suggest(name, names))
        return self._classes[name]


def load_plugin(path: Path) -> None:
    """Run a user's Python file so that what it registers can be named. Code runs with your rights: trust it first."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingData(f"plugin {path} is not a file", hint="give --plugin the path of a .py file")
    module_name = f"{_PLUGIN}{path.stem}"
    if module_name in sys.modules and getattr(sys.modules[module_name], "__file__", None) == str(path):
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"plugin {path} is not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        if isinstance(error, AffuseError):
            raise
        raise DataError(f"plugin {path} failed: {type(error).__name__}: {error}") from error


def forget_plugins() -> None:
    """Each is run anew when it is next asked for: where a process works for several commands, it may have changed."""
    for registry in _registries:
        registry._classes = {n: c for n, c in registry._classes.items() if not c.__module__.startswith(_PLUGIN)}
    for name in [n for n in sys.modules if n.startswith(_PLUGIN)]:
        del sys.modules[name]
