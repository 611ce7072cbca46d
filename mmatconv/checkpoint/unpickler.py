"""torch's ``weights_only`` reading for the releases of torch whose own is not enough.

Before torch 2.5 it takes no further types, and up to 2.9 a made-up file can make it write where it should not
(CVE-2026-24747). This one goes by the same rules: a few names, a few opcodes, nothing called or filled that is not on
the list, and storages only of the size that the file holds.
"""

import collections
import pickle
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch

from mmatconv.checkpoint.allowed import allowed_globals, allowed_types

_PLAIN = (
    'PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING '
    'EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT EMPTY_SET BINGET LONG_BINGET BINPUT LONG_BINPUT '
    'GLOBAL'
)
PLAIN = [getattr(pickle, name)[0] for name in _PLAIN.split()]
RENAMED = {'__builtin__': 'builtins'}


def unpickling(sizes: Mapping[str, int]) -> Any:
    """What ``torch.load`` takes as ``pickle_module``.

    Args:
        sizes: Bytes of each storage by its key, of a zip archive; empty for the older format, which torch checks.
    """

    class Unpickler(_Unpickler):
        storage_sizes = sizes

    def load(file: BinaryIO, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=load)


def _tensor_globals() -> dict[str, Any]:
    allowed = {f'torch.{name}': value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    for function in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter'):
        allowed[f'torch._utils.{function}'] = getattr(torch._utils, function)
    return allowed | {
        'collections.OrderedDict': collections.OrderedDict,
        'torch.Size': torch.Size,
        'torch.device': torch.device,
        'torch.storage.UntypedStorage': torch.storage.UntypedStorage,
        '_codecs.encode': _bytes_of,
        'builtins.set': set,
    }


def _bytes_of(text: str, encoding: str) -> bytes:
    """In place of ``_codecs.encode``, with which old pickles hold bytes as text."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError('Unsupported call: GLOBAL _codecs.encode')
    return text.encode('latin1')


class _Opcodes(dict):
    def __missing__(self, code: int) -> Callable:
        raise pickle.UnpicklingError(f'Unsupported operand {code}')


class _Unpickler(pickle._Unpickler):
    storage_sizes: Mapping[str, int] = {}
    dispatch = _Opcodes({code: pickle._Unpickler.dispatch[code] for code in PLAIN})

    def __init__(self, file: BinaryIO, **options: Any) -> None:
        super().__init__(file, **options)
        self.names = _tensor_globals() | allowed_globals()
        self.types = [collections.OrderedDict, *allowed_types()]

    def find_class(self, module: str, name: str) -> Any:
        full = f'{RENAMED.get(module, module)}.{name}'
        if full not in self.names:
            raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full.removeprefix("builtins.")}')
        return self.names[full]

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not any(function is known for known in self.names.values()):
            raise pickle.UnpicklingError(f'Unsupported call: GLOBAL {function!r}')
        self.stack[-1] = function(*arguments)

    def _new(self) -> None:
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if not any(kind is known for known in self.types):
            raise pickle.UnpicklingError(f'Unsupported class: GLOBAL {kind!r}')
        self.append(kind.__new__(kind, *arguments))

    def _fill(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is collections.OrderedDict:
            target.__dict__.update(state)
        elif any(type(target) is known for known in self.types):
            target.__setstate__(state)
        else:
            raise pickle.UnpicklingError(f'Unsupported state: GLOBAL {type(target).__name__}')

    def _append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def _appends(self) -> None:
        values = self.pop_mark()
        self._list().extend(values)

    def _list(self) -> list:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError(f'Unsupported list: {type(self.stack[-1]).__name__}')
        return self.stack[-1]

    def _set(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dict()[key] = value

    def _sets(self) -> None:
        items = self.pop_mark()
        self._dict().update(zip(items[::2], items[1::2]))

    def _dict(self) -> dict:
        if type(self.stack[-1]) not in (dict, collections.OrderedDict):
            raise pickle.UnpicklingError(f'Unsupported dictionary: {type(self.stack[-1]).__name__}')
        return self.stack[-1]

    def _storage(self) -> None:
        named = self.stack.pop()
        if type(named) is not tuple or len(named) < 5 or named[0] not in ('storage', b'storage'):
            raise pickle.UnpicklingError('Unsupported persistent id')
        kind, key, _, count = named[1:5]
        if type(count) is not int or count < 0:
            raise pickle.UnpicklingError('Unsupported size of a storage')
        dtype = torch.uint8 if kind is torch.storage.UntypedStorage else kind.dtype
        needed = count * torch.empty(0, dtype=dtype).element_size()
        if self.storage_sizes and self.storage_sizes.get(key) != needed:
            raise pickle.UnpicklingError(f'storage {key!r} has {self.storage_sizes.get(key)} bytes, not {needed}')
        self.append(self.persistent_load(named))

    dispatch |= {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new,
        pickle.BUILD[0]: _fill,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.SETITEM[0]: _set,
        pickle.SETITEMS[0]: _sets,
        pickle.BINPERSID[0]: _storage,
    }
