"""Modules and arguments by the names that they had in version 0.1.0.

`import ddpm.fidelity` gives `ddpm.metrics.fidelity`, and samplers take `noise=` for `randn_like=`.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["MOVED", "install", "noise_is_randn_like"]

P = ParamSpec("P")
R = TypeVar("R")

#: Old names and new ones.
MOVED = {
    "ddpm.averages": "ddpm.training.averages",
    "ddpm.batches": "ddpm.training.batches",
    "ddpm.checkpoint": "ddpm.training.checkpoint",
    "ddpm.features": "ddpm.metrics.features",
    "ddpm.fidelity": "ddpm.metrics.fidelity",
    "ddpm.optimisers": "ddpm.training.optimisers",
    "ddpm.pictures": "ddpm.data.pictures",
    "ddpm.recipes": "ddpm.training.recipes",
    "ddpm.run": "ddpm.training.run",
    "ddpm.signals": "ddpm.training.signals",
    "ddpm.training_config": "ddpm.training.config",
}


class _Finder(MetaPathFinder, Loader):
    """Finds a moved module, and gives the very module of the new name."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__  # which Python overwrites before it calls `exec_module`
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let Python find the moved modules; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def noise_is_randn_like(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator with which a function takes `noise=` for `randn_like=`, with a `DeprecationWarning`."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R:
        if "noise" in kwargs:
            words = "the argument noise is now called randn_like; the old name goes in version 0.4"
            warnings.warn(words, DeprecationWarning, stacklevel=2)
            kwargs["randn_like"] = kwargs.pop("noise")
        return function(*args, **kwargs)

    return cast(Callable[P, R], call)
