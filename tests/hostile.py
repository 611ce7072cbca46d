"""Checkpoints that would make a folder if they were unpickled without restriction."""

import functools
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer


class Call:
    """Unpickles as the result of a call; may itself be called, so that calls can be chained."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments

    def __call__(self) -> None:
        raise NotImplementedError


def _text(value: object) -> bytes:
    """The opcode that pushes a string."""
    data = str(value).encode()
    return b'X' + len(data).to_bytes(4, 'little') + data


def _chain(trace: Path) -> Call:
    """HistoryBuffer.mean.__globals__['__builtins__']['exec'](...)."""
    names = Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__')
    builtins = Call(Call(getattr, names, 'get'), '__builtins__')
    return Call(Call(Call(getattr, builtins, 'get'), 'exec'), f'import os; os.mkdir({str(trace)!r})')


def _raw(body: bytes) -> bytes:
    return b'\x80\x02}' + _text('state_dict') + body + b's.'


def _persistent(trace: Path) -> bytes:
    """A storage whose type is the result of a call."""
    call = b'cos\nmkdir\n' + _text(trace) + b'\x85R'
    return _raw(b'(' + _text('storage') + call + _text('0') + _text('cpu') + b'K\x01tQ')


def _partial(trace: Path) -> bytes:
    """NEWOBJ makes a functools.partial, BUILD puts another function into it, REDUCE calls it."""
    state = b'(cos\nmkdir\n' + _text(trace) + b'\x85}}t'
    return _raw(b'cfunctools\npartial\ncbuiltins\nprint\n\x85\x81' + state + b'b)R')


def _pickled(make: Callable[[Path], object], protocol: int = 2) -> Callable[[Path], bytes]:
    return lambda trace: pickle.dumps({'state_dict': {'w': 1}, 'extra': make(trace)}, protocol)


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    'os.system': _pickled(lambda trace: Call(os.system, f'mkdir {trace}')),
    'exec': _pickled(lambda trace: Call(exec, f'import os; os.mkdir({str(trace)!r})')),
    'eval': _pickled(lambda trace: Call(eval, f'__import__("os").mkdir({str(trace)!r})')),
    'getattr of a module': _pickled(lambda trace: Call(Call(getattr, Call(__import__, 'os'), 'mkdir'), str(trace))),
    'getattr of HistoryBuffer': _pickled(_chain),
    'in the optimizer': _pickled(lambda trace: {'state': {0: {'exp_avg': Call(os.mkdir, str(trace))}}}),
    'in a tuple as a key': _pickled(lambda trace: {(1, Call(os.mkdir, str(trace))): 2}),
    'partial': _pickled(lambda trace: Call(functools.partial(os.mkdir, str(trace)))),
    'protocol 0': _pickled(lambda trace: Call(os.mkdir, str(trace)), 0),
    'protocol 4': _pickled(lambda trace: Call(os.mkdir, str(trace)), 4),
    'INST': lambda trace: _raw(b'(' + _text(trace) + b'ios\nmkdir\n'),
    'OBJ': lambda trace: _raw(b'(cos\nmkdir\n' + _text(trace) + b'o'),
    'NEWOBJ and BUILD': _partial,
    'a persistent id': _persistent,
}


def as_zip(payload: bytes, path: Path) -> Path:
    """The format of torch since 1.6."""
    torch.save({'w': torch.ones(2)}, path.with_name('plain.pth'))
    with zipfile.ZipFile(path.with_name('plain.pth')) as source, zipfile.ZipFile(path, 'w') as archive:
        for record in source.infolist():
            inner = record.filename.endswith('data.pkl')
            archive.writestr(record.filename, payload if inner else source.read(record))
    return path


def as_legacy(payload: bytes, path: Path, place: int = 3) -> Path:
    """The format before: pickles of a magic number, a version, the system, the object and the storages."""
    pickles = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}, {}, []]
    parts = [pickle.dumps(part, 2) for part in pickles]
    parts[place] = payload
    path.write_bytes(b''.join(parts))
    return path


def as_pickle(payload: bytes, path: Path) -> Path:
    """No checkpoint at all."""
    path.write_bytes(payload)
    return path
