"""What a checkpoint carries never runs: made-up pickles in every format, through every way in."""

import argparse
import codecs
import collections
import copyreg
import functools
import http.server
import importlib
import io
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from mmatconv import AttNet
from mmatconv.checkpoint import weights_only
from mmatconv.checkpoint.reader import read_checkpoint, trust_checkpoints
from mmatconv.deploy.names import convert_names
from mmatconv.deploy.publishing import publishable
from mmatconv.engine.cli import parser as cli
from mmatconv.engine.cli import report
from mmatconv.engine.cli.convert import publish
from mmatconv.errors import UserError
from mmatconv.openmmlab.checkpoint_loader import use_safe_loader

from ..hostile import ATTACKS, Call, as_legacy, as_pickle, as_zip

# NumPy 2 has moved it.
multiarray = importlib.import_module(f'numpy.{"_core" if np.__version__ >= "2" else "core"}.multiarray')

FORMATS = {
    'zip': as_zip,
    'legacy': as_legacy,
    'legacy, magic number': functools.partial(as_legacy, place=0),
    'legacy, system': functools.partial(as_legacy, place=2),
    'legacy, storages': functools.partial(as_legacy, place=4),
    'pickle': as_pickle,
}


@pytest.fixture(params=['weights_only', 'before torch 2.6'])
def reader(request, monkeypatch):
    """torch's restricted unpickler, and Python's for releases of torch whose own takes no additions."""
    if request.param == 'before torch 2.6':
        monkeypatch.setattr(weights_only, 'TAKES_ADDITIONS', False)


@pytest.fixture
def guarded(monkeypatch):
    """What tools/train.py and tools/test.py do before they read anything."""
    monkeypatch.setattr(torch, 'load', torch.load)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loader()


@pytest.fixture
def trusting():
    yield lambda: trust_checkpoints(True)
    trust_checkpoints(False)


class Plain(pickle.Unpickler):
    def persistent_load(self, pid):
        return pid


@pytest.mark.parametrize('attack', ATTACKS)
def test_nothing_runs_in_any_format(reader, tmp_path, attack):
    trace = tmp_path / 'ran'
    payload = ATTACKS[attack](trace)
    Plain(io.BytesIO(payload)).load()
    trace.rmdir()  # it was there: the attack is real
    for name, write in FORMATS.items():
        for suffix in ('.pth', '.safetensors'):
            with pytest.raises(UserError) as error:
                read_checkpoint(write(payload, tmp_path / f'hostile{suffix}'))
            assert not trace.exists(), name
            assert f"checkpoint '{tmp_path}/hostile{suffix}'" in str(error.value)
            assert '\n' not in str(error.value) and 'weights_only' not in str(error.value)


def test_the_sentence_names_what_would_run_and_the_way_around(reader, tmp_path):
    for write in (as_zip, as_legacy):
        with pytest.raises(UserError) as error:
            read_checkpoint(write(ATTACKS['os.system'](tmp_path / 'ran'), tmp_path / 'hostile.pth'))
        assert str(error.value) == (
            f"checkpoint '{tmp_path}/hostile.pth' holds more than tensors and plain data, and restoring it would run "
            'code from the file (posix.system); ask its author for a state dict or a safetensors file, or, if you '
            'trust whoever made it with all that you can do on this machine, let the tool run it with '
            '--trust-checkpoint.'
        )


ALLOWED = {
    'getattr of a dunder': lambda: Call(getattr, HistoryBuffer, '__init__'),
    'getattr of str': lambda: Call(getattr, str, 'format'),
    'getattr of a dictionary': lambda: Call(getattr, {'mean': 1}, 'get'),
    'HistoryBuffer called': lambda: Call(HistoryBuffer, [1.0], [1]),
    'ndarray called': lambda: Call(np.ndarray, (4,), np.dtype('O')),
    'array of a subclass': lambda: Call(multiarray._reconstruct, np.matrix, (0,), b'b'),
    'array of another class': lambda: Call(multiarray._reconstruct, collections.OrderedDict, (0,), b'b'),
    'objects': lambda: np.array([print], dtype=object),
    'object dtype': lambda: np.dtype('O'),
    'structured dtype': lambda: np.dtype([('a', 'f8')]),
    'scalar of an object': lambda: Call(multiarray.scalar, np.dtype('f8'), 'text'),
    'short scalar': lambda: Call(multiarray.scalar, np.dtype('f8'), b'1234'),
    'codec': lambda: Call(codecs.decode, b'', 'zlib'),
    'Namespace called': lambda: Call(argparse.Namespace),
    'Namespace of a list': lambda: Filled(argparse.Namespace, [1]),
    'Namespace with slots': lambda: Filled(argparse.Namespace, ({}, {'__class__': 1})),
    'history of functions': lambda: Filled(HistoryBuffer, {'_log_history': len, 'max_length': 1}),
    'history that hides methods': lambda: Filled(HistoryBuffer, history() | {'mean': torch.Size}),
    'history of a table': lambda: Filled(HistoryBuffer, history(_log_history=np.ones((2, 2)))),
    'history of text': lambda: Filled(HistoryBuffer, history() | {'max_length': 'long'}),
}


class Filled:
    """Unpickles as an object of another class with a state."""

    def __init__(self, kind, state):
        self.kind, self.state = kind, state

    def __reduce_ex__(self, protocol):
        return copyreg.__newobj__, (self.kind,), self.state


def history(**more):
    return {'max_length': 9, '_log_history': np.ones(2), '_count_history': np.ones(2), **more}


class FilledPickler(pickle._Pickler):
    """Python's pickler insists that an object is of the class it is made of."""

    def save_reduce(self, func, args, state=None, *rest, obj=None):
        super().save_reduce(func, args, state, obj=None if isinstance(obj, Filled) else obj)


def dumped(content):
    file = io.BytesIO()
    FilledPickler(file, 2).dump({'state_dict': {}, 'extra': content})
    return file.getvalue()


@pytest.mark.parametrize('case', ALLOWED)
def test_allowed_names_do_no_more_than_they_must(reader, tmp_path, case):
    with pytest.raises(UserError, match='would run code from'):
        read_checkpoint(as_zip(dumped(ALLOWED[case]()), tmp_path / 'odd.pth'))


def test_functions_do_not_reach_the_table_that_all_histories_share(reader, tmp_path):
    HistoryBuffer()  # fills the table
    before = dict(HistoryBuffer._statistics_methods)
    state = history(statistics_methods={'mean': torch.Size, 'mine': torch.device})
    made = read_checkpoint(as_zip(dumped(Filled(HistoryBuffer, state)), tmp_path / 'odd.pth'))['extra']
    assert HistoryBuffer._statistics_methods == before
    assert type(made) is HistoryBuffer and made.statistics('mean') == 1
    assert '_statistics_methods' not in vars(made)


def test_flags_of_a_dtype_are_not_taken_from_the_file(reader, tmp_path):
    """With the flag for Python objects numpy would take numbers for their addresses."""
    unset = b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK'
    text = dumped(np.ones(2)).replace(unset + b'\x00t', unset + b'\x3ft')
    assert text != dumped(np.ones(2))
    array = read_checkpoint(as_zip(text, tmp_path / 'odd.pth'))['extra']
    assert array.dtype.flags == 0 and array.tolist() == [1, 1]


def test_training_state_is_restored_as_it_was(reader, tmp_path):
    buffer = HistoryBuffer()
    for value in (3.0, 2.5, 2.0):
        buffer.update(value)
    weight = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    state = {
        'state_dict': {'w': weight.detach(), 'half': torch.ones(3, dtype=torch.bfloat16), 'view': weight.detach().T},
        'parameter': weight,
        'optimizer': optimizer.state_dict(),
        'message_hub': {'log_scalars': {'loss': buffer}, 'runtime_info': {'best': np.float64(0.25), 'n': np.int64(7)}},
        'meta': {
            'epoch': 3,
            'classes': ('a', 'b'),
            'array': np.arange(6, dtype='f4').reshape(2, 3),
            'raw': b'\x00\xff',
        },
        'args': argparse.Namespace(lr=0.1),
    }
    for legacy in (False, True):
        torch.save(state, tmp_path / 'state.pth', _use_new_zipfile_serialization=not legacy)
        read = read_checkpoint(tmp_path / 'state.pth')
        assert type(read['message_hub']['log_scalars']['loss']) is HistoryBuffer
        assert read['message_hub']['log_scalars']['loss'].mean() == 2.5
        assert read['message_hub']['runtime_info'] == {'best': 0.25, 'n': 7}
        assert np.array_equal(read['meta'].pop('array'), np.arange(6).reshape(2, 3))
        assert read['meta'] == {'epoch': 3, 'classes': ('a', 'b'), 'raw': b'\x00\xff'}
        assert read['args'] == argparse.Namespace(lr=0.1)
        assert type(read['parameter']) is torch.nn.Parameter and torch.equal(read['parameter'], weight)
        assert all(torch.equal(read['state_dict'][name], value) for name, value in state['state_dict'].items())
        moments = read['optimizer']['state'][0]
        assert torch.equal(moments['exp_avg'], optimizer.state[weight]['exp_avg'])


# torch 2.1 reads what lies behind the record: one of the holes that the warning is about.
@pytest.mark.newer_torch
def test_a_storage_larger_than_its_record_is_refused(reader, tmp_path):
    torch.save({'w': torch.arange(100.0)}, tmp_path / 'plain.pth')
    payload = pickle_of(tmp_path / 'plain.pth').replace(b'K\x64', b'K\x66')
    with pytest.raises(UserError, match='damaged'):
        read_checkpoint(as_zip(payload, tmp_path / 'odd.pth'))


@pytest.mark.newer_torch
def test_what_other_packages_allow_is_not_allowed_here(reader, tmp_path):
    """Anyone who imports a package may have lengthened torch's list."""
    attack = dumped(Call(shutil.copyfile, __file__, str(tmp_path / 'ran')))
    with torch.serialization.safe_globals([shutil.copyfile]):
        with pytest.raises(UserError, match=r'would run code from the file \(shutil\.copyfile\)'):
            read_checkpoint(as_zip(attack, tmp_path / 'odd.pth'))
        assert shutil.copyfile in torch.serialization.get_safe_globals()
    assert not (tmp_path / 'ran').exists()


def test_one_warning_where_torch_itself_has_holes(tmp_path, monkeypatch):
    torch.save({'w': torch.ones(2)}, tmp_path / 'plain.pth')
    for version, holes in {
        (2, 5): ['CVE-2025-32434', 'CVE-2026-24747'],
        (2, 9): ['CVE-2026-24747'],
        (2, 10): [],
    }.items():
        monkeypatch.setattr(weights_only, 'TORCH', version)
        weights_only._warn_of_holes.cache_clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            for _ in range(2):
                read_checkpoint(tmp_path / 'plain.pth')
        messages = [str(warning.message) for warning in caught if 'known holes' in str(warning.message)]
        assert [re.findall(r'CVE-[\d-]*\d', message) for message in messages] == [holes] * bool(holes)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_two_entries_of_one_name_are_refused(reader, tmp_path):
    """Which of them is read, and which is checked, is anyone's guess."""
    path = as_zip(dumped(1), tmp_path / 'odd.pth')
    with zipfile.ZipFile(path, 'a') as archive:
        name = next(name for name in archive.namelist() if name.endswith('data.pkl'))
        archive.writestr(name, dumped(2))
    with pytest.raises(UserError, match='two entries have the same name'):
        read_checkpoint(path)


def pickle_of(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith('data.pkl')))


def test_programs_and_tar_archives_are_refused(reader, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / 'program.pth')
    with pytest.raises(UserError, match='is a TorchScript program'):
        read_checkpoint(tmp_path / 'program.pth')
    (tmp_path / 'storages').write_text('x')
    with tarfile.open(tmp_path / 'old.pth', 'w') as archive:
        archive.add(tmp_path / 'storages', '../storages')
    with pytest.raises(UserError, match=r'is a tar archive of torch 0\.1'):
        read_checkpoint(tmp_path / 'old.pth')


# ---- every way in --------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path):
    """A backbone's checkpoint with an attack in its optimizer; its trace."""
    trace = tmp_path / 'ran'
    content = {
        'state_dict': {'a': torch.ones(2)},
        'optimizer': {'state': {0: Call(os.mkdir, str(trace))}},
    }
    torch.save(content, tmp_path / 'hostile.pth')
    return tmp_path / 'hostile.pth', trace


WAYS = {
    'init_cfg': lambda path: AttNet('XXS', init_cfg=dict(type='Pretrained', checkpoint=str(path))).init_weights(),
    'publish': publishable,
    'convert names': functools.partial(convert_names, to='released'),
    'CheckpointLoader': lambda path: CheckpointLoader.load_checkpoint(str(path)),
    'torch.load': lambda path: torch.load(path, weights_only=False),
    'torch.load of a stream': lambda path: torch.load(io.BytesIO(path.read_bytes()), None, pickle, weights_only=False),
}


@pytest.mark.parametrize('variable', ['', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
@pytest.mark.parametrize('way', WAYS)
def test_no_way_in_runs_it(guarded, hostile, monkeypatch, way, variable):
    path, trace = hostile
    if variable:
        monkeypatch.setenv(variable, '1')
    with pytest.raises(UserError, match=r'would run code from the file \(posix\.mkdir\)'):
        WAYS[way](path)
    assert not trace.exists()


def test_what_mmengine_downloads_does_not_run_either(guarded, hostile, tmp_path, monkeypatch):
    path, trace = hostile
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        for way in ('CheckpointLoader', 'init_cfg'):
            with pytest.raises(UserError, match='would run code'):
                WAYS[way](f'{address}/{path.name}')
        with pytest.raises(UserError, match=r"nothing\.pth' cannot be downloaded"):
            WAYS['init_cfg'](f'{address}/nothing.pth')
        server.shutdown()
    assert not trace.exists()


@pytest.mark.parametrize('way', ['CheckpointLoader', 'torch.load', 'publish'])
def test_trust_runs_it_and_says_so(guarded, trusting, hostile, capfd, way):
    path, trace = hostile
    trusting()
    WAYS[way](path)
    assert trace.is_dir()
    assert capfd.readouterr().err == (
        f"WARNING: --trust-checkpoint: '{path}' is unpickled without restriction and may run anything (posix.mkdir)\n"
    )


def test_trust_is_silent_about_plain_files_and_helps_no_damaged_one(trusting, tmp_path, capfd):
    trusting()
    torch.save({'w': torch.ones(2)}, tmp_path / 'plain.pth')
    assert torch.equal(read_checkpoint(tmp_path / 'plain.pth')['w'], torch.ones(2))
    content = bytearray((tmp_path / 'plain.pth').read_bytes())
    content[content.index(torch.ones(2).numpy().tobytes())] ^= 1
    (tmp_path / 'plain.pth').write_bytes(content)
    with pytest.raises(UserError, match=r"checksum of '.*data/0' is wrong"):
        read_checkpoint(tmp_path / 'plain.pth')
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('make_parser', [cli.train_parser, cli.test_parser])
def test_trust_holds_for_one_call_of_a_tool(hostile, trusting, make_parser):
    path, trace = hostile
    names = ['config.py', 'checkpoint.pth'][: 1 + (make_parser is cli.test_parser)]
    cli.parse(make_parser(), [*names, '--trust-checkpoint'])
    read_checkpoint(path)
    trace.rmdir()
    cli.parse(make_parser(), names)
    with pytest.raises(UserError, match='would run code'):
        read_checkpoint(path)


def test_publishing_with_and_without_trust(hostile, tmp_path, monkeypatch, capfd, trusting):
    path, trace = hostile
    monkeypatch.setattr(report, '_catch_signals', lambda: None)
    assert publish('About it.', None, [str(path), str(tmp_path / 'out')]) == 1
    assert '--trust-checkpoint' in capfd.readouterr().err and not trace.exists()
    assert publish('About it.', None, [str(path), str(tmp_path / 'out'), '--trust-checkpoint']) == 0
    assert trace.is_dir() and len(list(tmp_path.glob('out-*.pth'))) == 1
    assert capfd.readouterr().err.startswith('WARNING: --trust-checkpoint')


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_launchers_pass_the_option_to_every_process(tool, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHON', '/bin/echo')
    arguments = ['config.py', *(['checkpoint.pth'] if tool == 'test' else []), '2', '--trust-checkpoint']
    script = Path('tools', f'dist_{tool}.sh')
    output = subprocess.run([script, *arguments], capture_output=True, text=True, check=True).stdout
    assert output.split()[:3] == ['-m', 'mmatconv.engine.launch.torchrun', '2']
    assert output.split()[-1] == '--trust-checkpoint'
