"""Something to be done as soon as another package is imported, without importing it."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mmatconv.openmmlab.log import log_change


def when_imported(package: str, act: Callable[[], None]) -> None:
    """Call `act` now where `package` is imported, else right after it has been. Waits once for each package.

    Args:
        package: A top-level package, installed or not.
        act: Takes and returns nothing.
    """
    if sys.modules.get(package) is not None:
        act()
    elif not any(isinstance(finder, _Finder) and finder.package == package for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(package, act))
        log_change('sys.meta_path', f'to act when {package} is imported')


class _Finder(MetaPathFinder):
    """Finds a package as the other finders do, and acts once its module has been executed."""

    def __init__(self, package: str, act: Callable[[], None]) -> None:
        self.package = package
        self.act = act

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, 'find_spec'))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_act(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:  # being found is not being imported
                    sys.meta_path.remove(self)
                    self.act()

            spec.loader.exec_module = execute_and_act
        return spec
