"""torch's own restricted reading, ``weights_only``, with the names of allowed.py as its only additions."""

import contextlib
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

from mmatconv.checkpoint.allowed import allowed_globals, allowed_types

TORCH = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))
# torch 2.6 is the first whose list takes objects under names of their own.
TAKES_ADDITIONS = TORCH >= (2, 6)
# First release without the hole -> the hole.
HOLES = {(2, 6): 'CVE-2025-32434', (2, 10): 'CVE-2026-24747'}


def load_weights_only(load: Callable, source: Any, **options: Any) -> Any:
    """Read a torch file that holds tensors, plain data and what allowed.py lists.

    Args:
        load: torch.load.
        source: What it loads.
        **options: Its other arguments.

    Raises:
        pickle.UnpicklingError: The file names something else; the message has its name behind 'GLOBAL'.
    """
    _warn_of_holes()
    if not TAKES_ADDITIONS:
        return load(source, pickle_module=listed_names_only(), weights_only=False, **options)
    with _only_our_globals():
        return load(source, weights_only=True, **options)


@cache
def _warn_of_holes() -> None:
    """Once in a process."""
    if holes := [hole for fixed, hole in HOLES.items() if TORCH < fixed]:
        warnings.warn(
            f'torch {torch.__version__} has known holes in reading checkpoints as data ({", ".join(holes)}): a made-up '
            'file may damage memory or run code. Read only files from people you trust, read .safetensors, or '
            'install torch 2.10 or newer.',
            stacklevel=2,
        )


@contextlib.contextmanager
def _only_our_globals() -> Iterator[None]:
    """Packages add names of their own to torch's list when they are imported; here it is ours alone."""
    serialization = torch.serialization
    others = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    # A name in a pickle is MODULE.NAME, so that none can refer to what is listed without a dot.
    ours = [(value, name) for name, value in allowed_globals().items()]
    serialization.add_safe_globals([*ours, *((kind, kind.__name__.replace('.', '_')) for kind in allowed_types())])
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(others)


def listed_names_only() -> SimpleNamespace:
    """Python's unpickler with its documented restriction: no name that is not on the list.

    The list is torch's own for ``weights_only`` and ours. For plain pickles, and as ``pickle_module`` of ``torch.load``
    in torch 2.1 to 2.5.
    """
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = {name: value for name, value in _get_allowed_globals().items() if not name.endswith(ATTRIBUTE_SETTERS)}
    # Later releases of torch list these too.
    allowed |= {'_codecs.encode': _bytes_of, 'builtins.set': set, 'torch.device': torch.device, **allowed_globals()}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f'{module.replace("__builtin__", "builtins")}.{name}'
            if full not in allowed:
                raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full.removeprefix("builtins.")}')
            return allowed[full]

    return SimpleNamespace(
        __name__=__name__, Unpickler=Unpickler, load=lambda file, **options: Unpickler(file, **options).load()
    )


# Functions on torch's list that set whatever attributes a file says.
ATTRIBUTE_SETTERS = ('_rebuild_from_type_v2', '_rebuild_parameter_with_state', '_rebuild_wrapper_subclass')


def _bytes_of(text: str, encoding: str) -> bytes:
    """In place of ``_codecs.encode``, with which pickles of protocol 2 hold bytes as text."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError('Unsupported call: GLOBAL _codecs.encode')
    return text.encode('latin1')
