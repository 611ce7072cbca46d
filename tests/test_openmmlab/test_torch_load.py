"""The torch.load of the tools takes what torch's own takes, and unpickles nothing."""

import io
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmatconv.checkpoint.reader import trust_checkpoints
from mmatconv.errors import UserError
from mmatconv.openmmlab.torch_load import guard_torch_load

from ..hostile import Call


@pytest.fixture(autouse=True)
def guarded(monkeypatch):
    monkeypatch.setattr(torch, 'load', torch.load)
    guard_torch_load()


@pytest.fixture
def trusting():
    trust_checkpoints(True)
    yield
    trust_checkpoints(False)


def dumped(content, legacy=False):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def test_mmap_leaves_the_tensors_on_the_disk(tmp_path):
    path = tmp_path / 'mapped.pth'
    torch.save({'w': torch.arange(5000.0)}, path)
    read, mapped = torch.load(path), torch.load(path, mmap=True)
    assert torch.equal(mapped['w'], read['w'])
    maps = Path('/proc/self/maps').read_text()
    assert maps.count(str(path)) == 1
    del mapped
    with pytest.raises(ValueError, match='give their path for mmap=True'):
        torch.load(io.BytesIO(path.read_bytes()), mmap=True)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_stream_is_read_from_where_it_stands(legacy):
    stream = io.BytesIO(b'1234567' + dumped({'w': torch.arange(3.0)}, legacy))
    stream.seek(7)
    assert torch.load(stream)['w'].tolist() == [0, 1, 2]


def test_one_after_the_other_in_one_stream():
    stream = io.BytesIO(dumped(torch.ones(1), legacy=True) + dumped(torch.zeros(2), legacy=True))
    assert (torch.load(stream).tolist(), torch.load(stream).tolist()) == ([1], [0, 0])


class Spy(pickle.Unpickler):
    used = 0

    def find_class(self, module, name):
        Spy.used += 1
        return super().find_class(module, name)


SPY = SimpleNamespace(__name__='spy', Unpickler=Spy, load=lambda file, **options: Spy(file, **options).load())


def hostile(folder):
    path = folder / 'hostile.pth'
    torch.save({'w': Call(os.mkdir, str(folder / 'ran'))}, path)
    return path


def test_another_unpickler_is_not_used(tmp_path):
    path = hostile(tmp_path)
    for arguments in ((None, SPY), (None, pickle)):
        with pytest.raises(UserError, match='would run code'):
            torch.load(path, *arguments, weights_only=False)
    assert torch.load(io.BytesIO(dumped(torch.ones(1))), pickle_module=SPY).tolist() == [1]
    assert Spy.used == 0 and not (tmp_path / 'ran').exists()


def test_another_unpickler_reads_trusted_files(tmp_path, trusting):
    torch.load(hostile(tmp_path), pickle_module=SPY)
    assert Spy.used > 0 and (tmp_path / 'ran').exists()
    Spy.used = 0
