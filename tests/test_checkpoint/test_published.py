"""The addresses of weights that come with the package, and the hash in their names."""

import hashlib

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from safetensors.torch import save

from mmatconv.checkpoint import published
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.errors import UserError
from mmatconv.openmmlab.checkpoint_loader import register_published_weights


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Of weights in a folder of their own, with a file beside it that is none of them."""
    content = save({'weight': torch.tensor([[3.0]])})
    name = f'small-{hashlib.sha256(content).hexdigest()[:8]}.safetensors'
    folder = tmp_path / 'weights'
    folder.mkdir()
    (folder / name).write_bytes(content)
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(published, 'FOLDER', folder)
    return f'mmatconv://{name}'


def test_an_address_is_read(address):
    assert read_checkpoint(address)['state_dict']['weight'].item() == 3


def test_mmengine_reads_it_as_its_hub_does(address, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    register_published_weights()
    model = torch.nn.Linear(1, 1, bias=False)
    load_checkpoint(model, address)
    assert model.weight.item() == 3


def test_one_changed_bit_is_refused(address):
    file = published.FOLDER / address.removeprefix('mmatconv://')
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r'are damaged: the sha256 begins with \w{8}, expected \w{8}; install'):
        read_checkpoint(address)


def test_another_name_is_refused_and_so_is_a_file_outside(address):
    name = address.removeprefix('mmatconv://')
    for wrong in ('other.safetensors', f'../{name}', ''):
        with pytest.raises(UserError, match=rf"there are no weights 'mmatconv://{wrong}'; there are {name}"):
            read_checkpoint(f'mmatconv://{wrong}')


def test_a_name_without_a_hash_is_refused(address):
    (published.FOLDER / 'plain-.safetensors').write_bytes(save({'weight': torch.zeros(1)}))
    with pytest.raises(UserError, match='are damaged'):
        read_checkpoint('mmatconv://plain-.safetensors')
