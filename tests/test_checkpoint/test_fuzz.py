"""300 damaged checkpoints: each loads as it was, or is refused in one sentence with nothing of it loaded."""

import random
import zipfile
from collections import Counter

import pytest
import torch
from torch import nn

from mmatconv.checkpoint.loading import load_pretrained, refuse_other_sizes, state_dict_of
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.engine.hooks.check_checkpoint import check_state
from mmatconv.errors import UserError

KINDS = ['truncated', 'bit', 'bit', 'byte', 'hole', 'pickle', 'shape', 'dtype', 'renamed', 'removed', 'other']


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {name: torch.randn(value.shape).to(value.dtype) for name, value in Model().state_dict().items()}


def mutate(path, state, kind, chance):
    """Writes a checkpoint that differs from a valid one in one place."""
    state = dict(state)
    name = chance.choice([name for name, value in state.items() if value.dim()])
    if kind == 'shape':
        state[name] = chance.choice(
            [state[name][:-1], state[name][None], state[name][:0], torch.cat([state[name]] * 2)]
        )
    elif kind == 'dtype':
        state[name] = state[name].to(chance.choice([torch.int8, torch.bool, torch.complex64, torch.float16]))
    elif kind == 'renamed':
        state[chance.choice([f'{name}_', f'module.{name}', name.upper(), ''])] = state.pop(name)
    elif kind == 'removed':
        del state[name]
    elif kind == 'other':
        state[name] = chance.choice([None, 3, 'text', [1.0], {'a': state[name]}])
    torch.save({'state_dict': state, 'meta': {'epoch': 3}}, path)
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if kind == 'truncated':
        del content[at:]
    elif kind == 'bit':
        content[at] ^= 1 << chance.randrange(8)
    elif kind == 'byte':
        content[at] = chance.randrange(256)
    elif kind == 'hole':
        del content[at : at + chance.randrange(1, 300)]
    path.write_bytes(content)
    if kind == 'pickle':
        _damage_pickle(path, chance)


def _damage_pickle(path, chance):
    """Other bytes where the checksum cannot show it."""
    with zipfile.ZipFile(path) as archive:
        records = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    (pickled,) = (content for name, content in records.items() if name.endswith('data.pkl'))
    for _ in range(chance.choice([1, 1, 4])):
        pickled[chance.randrange(len(pickled))] = chance.randrange(256)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in records.items():
            archive.writestr(name, bytes(content))


def read_weights(path):
    """What tools/test.py does with a file: read it and compare it with the model; then the model loads it."""
    state = state_dict_of(read_checkpoint(path))
    model = Model()
    refuse_other_sizes(model)
    check_state(model, state, path.name, exact=True)
    model.load_state_dict(state)
    return model.state_dict()


def expected_sentence(error):
    text = str(error)
    return '\n' not in text and 'Traceback' not in text and len(text) < 700


def test_300_mutations_load_whole_or_not_at_all(tmp_path, state):
    ends = Counter()
    for seed in range(300):
        chance = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        path = tmp_path / f'{seed}.pth'
        mutate(path, state, kind, chance)
        try:
            weights = read_weights(path)
        except UserError as error:
            assert expected_sentence(error), f'seed {seed}: {error}'
            assert str(path) in str(error) or path.name in str(error) or kind in ('renamed', 'other', 'pickle'), error
            ends[kind, 'refused'] += 1
            continue
        ends[kind, 'loaded'] += 1
        # Half precision is a rounding; where the checksum was made to fit, what the file says is what is loaded.
        if kind != 'pickle':
            allowed = 2e-3 if kind == 'dtype' else 0
            for name, value in weights.items():
                torch.testing.assert_close(value, state[name], rtol=0, atol=allowed, msg=f'seed {seed}: {kind}')
        assert weights.keys() == state.keys()
    for kind in ('truncated', 'shape', 'removed', 'other'):
        assert ends[kind, 'loaded'] == 0 and ends[kind, 'refused'] > 0
    # Most bits of so small an archive are padding between its tensors.
    assert min(ends['bit', 'refused'], ends['bit', 'loaded']) > 10
    assert ends['pickle', 'refused'] > 0


def test_a_flipped_bit_in_the_weights_is_seen(tmp_path, state):
    torch.save(state, tmp_path / 'a.pth')
    content = (tmp_path / 'a.pth').read_bytes()
    start = content.index(state['layer.weight'].numpy().tobytes())
    for at in range(start, start + state['layer.weight'].nbytes):
        damaged = bytearray(content)
        damaged[at] ^= 1
        (tmp_path / 'a.pth').write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.pth' is truncated or damaged .*checksum of 'a/data/.' is wrong"):
            read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.newer_torch
def test_files_written_without_checksums_load(tmp_path, state):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / 'a.pth').keys() == state.keys()


def test_a_refused_checkpoint_leaves_a_backbone_as_it_was(tmp_path, state):
    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state['norm.weight'] = state['norm.weight'][:2]
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r'norm\.weight'):
        load_pretrained(model, tmp_path / 'a.pth')
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
