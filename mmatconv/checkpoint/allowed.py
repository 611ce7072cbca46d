"""What a pickled checkpoint may be made of besides tensors, and why none of it can run code.

MMEngine's checkpoints hold its log history (HistoryBuffer, numpy arrays and numbers), the released training code's an
argparse.Namespace. Names in the file stand for the functions and classes below, never for what they are called after:
these take plain data of known types, refuse everything else, and call nothing that comes from the file.
"""

import argparse
import pickle
from functools import cache
from typing import Any

DTYPES = ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
HISTORY_METHODS = ('min', 'max', 'mean', 'current')


def allowed_globals() -> dict[str, Any]:
    """Names a pickle may use, besides those of tensors, with what each stands for."""
    allowed: dict[str, Any] = {'argparse.Namespace': _Namespace}
    try:
        history = _history_class()
    except ImportError:
        return allowed
    for home in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        allowed |= {f'{home}._reconstruct': _empty_array, f'{home}.scalar': _scalar}
    return allowed | {
        'numpy.ndarray': _array_class,
        'numpy.dtype': _dtype,
        'mmengine.logging.history_buffer.HistoryBuffer': history,
        'builtins.getattr': _history_method,
    }


def allowed_types() -> list[type]:
    """Types whose objects a pickle may fill after making them; numpy's check the sizes of what they are given."""
    try:
        import numpy

        history = _history_class()
    except ImportError:
        return [_Namespace]
    return [_Namespace, history, numpy.ndarray, *{type(numpy.dtype(code)) for code in DTYPES}]


class _Namespace(argparse.Namespace):
    """Becomes an argparse.Namespace when its attributes, which are data, are set."""

    def __init__(self, *_: Any) -> None:
        raise pickle.UnpicklingError('Unsupported call: GLOBAL argparse.Namespace')

    def __setstate__(self, state: Any) -> None:
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise pickle.UnpicklingError('Unsupported state: GLOBAL argparse.Namespace')
        self.__dict__.update(state)
        self.__class__ = argparse.Namespace


@cache
def _history_class() -> type:
    import numpy
    from mmengine.logging import HistoryBuffer

    class History(HistoryBuffer):
        """Becomes a HistoryBuffer when it has two arrays of numbers.

        HistoryBuffer itself copies functions from the file into a table that all its objects share.
        """

        def __init__(self, *_: Any) -> None:
            raise pickle.UnpicklingError('Unsupported call: GLOBAL mmengine.logging.history_buffer.HistoryBuffer')

        def __setstate__(self, state: Any) -> None:
            arrays = ('_log_history', '_count_history')
            if (
                type(state) is not dict
                or not {'max_length', *arrays} <= set(state) <= {'max_length', 'statistics_methods', *arrays}
                or type(state['max_length']) is not int
                or not all(type(state[name]) is numpy.ndarray and state[name].ndim == 1 for name in arrays)
            ):
                raise pickle.UnpicklingError('Unsupported state: GLOBAL mmengine.logging.history_buffer.HistoryBuffer')
            self.__dict__.update({name: state[name] for name in ('max_length', *arrays)})
            self.__class__ = HistoryBuffer
            self._set_default_statistics()

    return History


def _history_method(owner: Any, name: Any) -> str:
    """In place of ``getattr``, with which a pickled HistoryBuffer refers to its methods; they are there anyway."""
    if owner is _history_class() and name in HISTORY_METHODS:
        return name
    raise pickle.UnpicklingError('Unsupported call: GLOBAL builtins.getattr')


def _array_class(*_: Any) -> None:
    """In place of the class ``numpy.ndarray``, which pickles only pass on to ``_reconstruct``."""
    raise pickle.UnpicklingError('Unsupported call: GLOBAL numpy.ndarray')


def _empty_array(kind: Any, *_: Any) -> Any:
    """In place of numpy's ``_reconstruct``: an array for ``ndarray.__setstate__`` to fill."""
    import numpy

    if kind is not _array_class:
        raise pickle.UnpicklingError('Unsupported class of array: GLOBAL numpy.core.multiarray._reconstruct')
    return numpy.empty(0, dtype='i1')


def _dtype(code: Any, *_: Any) -> Any:
    """In place of ``numpy.dtype``: one of numpy's own number types, which no state from a file can change.

    A copy, as the real one makes for a pickle, takes its flags from the file: bytes could pass for Python objects.
    """
    import numpy

    if code not in DTYPES:
        raise pickle.UnpicklingError(f'Unsupported data type {code!r}: GLOBAL numpy.dtype')
    return numpy.dtype(code)


def _scalar(dtype: Any, content: Any) -> Any:
    """In place of numpy's ``scalar``: one number from its bytes."""
    import numpy

    if not isinstance(dtype, numpy.dtype) or type(content) is not bytes or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError('Unsupported value: GLOBAL numpy.core.multiarray.scalar')
    return numpy.frombuffer(content, dtype)[0]
