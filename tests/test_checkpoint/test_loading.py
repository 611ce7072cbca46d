"""Loading weights: released and MMEngine checkpoints, the report, and refusals."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmatconv import AttNet
from mmatconv.checkpoint.loading import compare, load_pretrained, state_dict_of
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.errors import UserError

ARCH = dict(depths=[1, 1], dims=[8, 12], exp_rates=2)


@pytest.fixture
def released():
    """A state dict as the released code writes it: backbone, final norm and head."""
    torch.manual_seed(1)
    model = AttNet(ARCH, gap_before_final_norm=True)
    return {**model.state_dict(), 'head.weight': torch.randn(10, 12), 'head.bias': torch.randn(10)}


def saved(folder: Path, content, name='checkpoint.pth') -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def holds(model, state, prefix=''):
    return all(torch.equal(value, state[prefix + name]) for name, value in model.state_dict().items())


FORMS = {
    'released': lambda state: {'model': state},
    'bare': lambda state: state,
    'MMEngine': lambda state: {'state_dict': state, 'meta': {}},
    'DistributedDataParallel': lambda state: {'model': {f'module.{name}': value for name, value in state.items()}},
    'without head': lambda state: {name: value for name, value in state.items() if not name.startswith('head')},
}


@pytest.mark.parametrize('form', FORMS)
def test_every_form_loads_through_init_cfg(tmp_path, released, form):
    path = saved(tmp_path, FORMS[form](released))
    model = AttNet(ARCH, init_cfg=dict(type='Pretrained', checkpoint=path))
    assert not holds(model, released)
    model.init_weights()
    assert holds(model, released)


def test_prefix_picks_the_backbone_of_a_detector(tmp_path, released):
    state = {f'backbone.{name}': value for name, value in released.items()} | {'neck.weight': torch.zeros(3)}
    path = saved(tmp_path, {'state_dict': state})
    for prefix in ('backbone.', 'backbone'):
        model = AttNet(ARCH, init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix))
        model.init_weights()
        assert holds(model, released)


def test_classifier_takes_the_final_norm_too(tmp_path, released):
    model = AttNet(ARCH, gap_before_final_norm=True)
    report = load_pretrained(model, saved(tmp_path, {'model': released}))
    assert torch.equal(model.norm.weight, released['norm.weight'])
    assert report.unused == ['head.weight', 'head.bias'] and not report.missing


def test_safetensors_load(tmp_path, released):
    save_file(released, tmp_path / 'weights.safetensors')
    model = AttNet(ARCH)
    load_pretrained(model, tmp_path / 'weights.safetensors')
    assert holds(model, released)


def test_one_log_line_counts_loaded_missing_and_unused(tmp_path, released, monkeypatch):
    del released['stages.0.0.norm_1.weight']
    model = AttNet(ARCH, out_norm=True)
    path = saved(tmp_path, {'model': released})
    lines = []
    monkeypatch.setattr('mmatconv.checkpoint.loading.log_line', lines.append)
    report = load_pretrained(model, path)
    count = len(model.state_dict()) - 5
    assert len(report.loaded) == count and report.missing[0] == 'stages.0.0.norm_1.weight'
    (line,) = lines
    assert '\n' not in line
    assert f'{count} tensors loaded, 5 missing (stages.0.0.norm_1.weight, ' in line
    assert '4 unused (norm.weight, norm.bias, head.weight, ...)' in line


def test_loading_nothing_is_an_error_that_knows_the_prefix(tmp_path, released):
    path = saved(tmp_path, {'state_dict': {f'backbone.{name}': value for name, value in released.items()}})
    model = AttNet(ARCH, init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(UserError, match=r"holds none of the .* tensors of this AttNet.*a prefix of 'backbone\.' would"):
        model.init_weights()


def test_a_prefix_nothing_starts_with_is_an_error(tmp_path, released):
    with pytest.raises(UserError, match=r"starts with 'encoder\.'; its names begin with downsample_layers, head"):
        load_pretrained(AttNet(ARCH), saved(tmp_path, released), prefix='encoder.')


def test_another_size_names_the_first_tensor_and_both_shapes(tmp_path, released):
    model = AttNet(dict(ARCH, dims=[8, 16]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = r'downsample_layers\.1\.0\.weight is \(12, 8, 3, 3\) there and \(16, 8, 3, 3\) in this AttNet'
    with pytest.raises(UserError, match=message):
        load_pretrained(model, saved(tmp_path, released))
    assert holds(model, before), 'a refused checkpoint must not load in part'


def test_an_initialised_backbone_is_not_loaded_again(tmp_path, released):
    path = saved(tmp_path, released)
    model = AttNet(ARCH, init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    torch.nn.init.zeros_(model.stages[0][0].norm_1.weight)
    model.init_weights()
    assert not model.stages[0][0].norm_1.weight.any()


@pytest.mark.parametrize(
    ('content', 'named'),
    [
        ([torch.zeros(3)], 'holds a list, expected a dictionary of tensors'),
        ({'optimizer': {}, 'epoch': 3}, "no tensors under 'state_dict' or 'model'.*'optimizer', 'epoch'"),
    ],
)
def test_files_without_weights_are_named(tmp_path, content, named):
    with pytest.raises(UserError, match=named):
        load_pretrained(AttNet(ARCH), saved(tmp_path, content))


# A single byte is an instruction that Python's unpickler, in the place of an older torch's, refuses as code.
@pytest.mark.parametrize('keep', [0, pytest.param(1, marks=pytest.mark.newer_torch), 100, 0.5, 0.99])
@pytest.mark.parametrize('name', ['checkpoint.pth', 'checkpoint.safetensors'])
def test_truncated_files_are_named(tmp_path, released, keep, name):
    path = tmp_path / name
    save_file(released, path) if name.endswith('tensors') else torch.save(released, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(UserError, match=f"{name}' is truncated or damaged"):
        read_checkpoint(path)


def test_missing_files_and_directories_are_named(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        read_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(UserError, match='is a directory'):
        read_checkpoint(tmp_path)


def test_compare_sorts_names():
    model = {'a': torch.zeros(2), 'b': torch.zeros(2), 'c': torch.zeros(2)}
    report = compare(model, {'a': torch.zeros(2), 'b': torch.zeros(3), 'd': torch.zeros(1)})
    assert (report.loaded, report.missing, report.unused) == (['a'], ['c'], ['d'])
    assert report.mismatched == [('b', (2,), (3,))]
    assert not report.fits
    assert state_dict_of({'a': torch.zeros(1), 'note': 'text'}).keys() == {'a'}
