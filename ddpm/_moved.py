"""Modules by the names that they had in version 0.1.0: `import ddpm.fidelity` gives `ddpm.metrics.fidelity`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "install"]

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
