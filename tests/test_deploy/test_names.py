"""Released checkpoints in mmpretrain's classifier, the way back, and what is refused."""

import argparse
import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import safe_open
from safetensors.torch import save_file

from mmatconv import AttNet
from mmatconv.checkpoint.loading import refuse_other_sizes
from mmatconv.checkpoint.names import is_released, to_classifier, to_released
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.deploy.conversion import report_rows, save
from mmatconv.deploy.infer_arch import expected_state, infer_arch
from mmatconv.deploy.names import NAMINGS, convert_names
from mmatconv.deploy.publishing import publishable
from mmatconv.errors import UserError
from mmatconv.openmmlab.checkpoint_loader import use_safe_loader

DATA = Path(__file__).parents[1] / 'data'
GOLDEN = [('attnet_tiny', '2x64x64'), ('attnet_tiny', '1x50x77'), ('attnet_tiny_k7533_nonorm', '2x64x96')]
ARCH = dict(depths=[1, 1], dims=[8, 12], exp_rates=2)


def golden(name):
    """Settings, released weights and the other tensors of a golden file."""
    with safe_open(DATA / f'{name}.safetensors', 'pt') as file:
        config = json.loads(file.metadata()['config'])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    weights = {key.removeprefix('weights/'): value for key, value in tensors.items() if key.startswith('weights/')}
    arch = dict(
        depths=config['depths'],
        dims=config['dims'],
        exp_rates=config['exp_rates'],
        kernel_sizes=config['kernel_sizes'],
        layer_scale=config['use_layer_scale'],
        glu_norm=config['glu_norm'][0],
    )
    return arch, weights, tensors


def classifier(arch, num_classes=10, **options):
    from mmpretrain.registry import MODELS
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    return MODELS.build(
        dict(
            type='ImageClassifier',
            _scope_='mmpretrain',
            backbone=dict(type='mmatconv.AttNet', arch=arch, gap_before_final_norm=True),
            neck=None,
            head=dict(type='LinearClsHead', in_channels=arch['dims'][-1], num_classes=num_classes, topk=(1,)),
            **options,
        )
    )


@pytest.fixture
def released():
    """A state dict as the released code writes it."""
    torch.manual_seed(1)
    model = AttNet(ARCH, gap_before_final_norm=True)
    return {**model.state_dict(), 'head.weight': torch.randn(10, 12), 'head.bias': torch.randn(10)}


@pytest.fixture
def safe_loader(monkeypatch):
    monkeypatch.setattr(torch, 'load', torch.load)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loader()


def saved(folder, content, name='checkpoint.pth'):
    torch.save(content, folder / name)
    return folder / name


def check_logits(model, tensors, case):
    expected = tensors[f'{case}/logits']
    with torch.no_grad():
        logits = model.eval()(tensors[f'{case}/input'], mode='tensor')
    assert logits.dtype == torch.float64
    assert ((logits - expected).abs().max() / expected.abs().max()).item() < 1e-12


# ---- released weights in mmpretrain ---------------------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(('name', 'case'), GOLDEN)
def test_converted_checkpoint_gives_the_released_logits(tmp_path, name, case, suffix):
    arch, weights, tensors = golden(name)
    source = tmp_path / f'released{suffix}'
    save_file(weights, source) if suffix == '.safetensors' else torch.save({'model': weights}, source)
    target = save(convert_names(source, 'mmpretrain'), tmp_path / f'out{suffix}')
    model = classifier(arch).double()
    missing, unexpected = model.load_state_dict(read_checkpoint(target)['state_dict'])
    assert not missing and not unexpected
    check_logits(model, tensors, case)


@pytest.mark.parametrize(('name', 'case'), GOLDEN)
def test_released_checkpoint_loads_as_it_is(tmp_path, safe_loader, name, case):
    arch, weights, tensors = golden(name)
    path = saved(tmp_path, {'model': weights})
    model = classifier(arch).double()
    load_checkpoint(model, str(path), strict=True)
    check_logits(model, tensors, case)


def test_released_checkpoint_in_init_cfg(tmp_path, safe_loader):
    arch, weights, tensors = golden('attnet_tiny')
    path = saved(tmp_path, {'model': weights})
    model = classifier(arch, init_cfg=dict(type='Pretrained', checkpoint=str(path))).double()
    model.init_weights()
    check_logits(model, tensors, '2x64x64')


def test_reading_says_that_names_are_the_released_ones(tmp_path, safe_loader, released, monkeypatch):
    lines = []
    monkeypatch.setattr('mmatconv.openmmlab.checkpoint_loader.log_line', lines.append)
    path = saved(tmp_path, {'model': released})
    checkpoint = CheckpointLoader.load_checkpoint(str(path), logger='silent')
    assert set(checkpoint['state_dict']) == {to_classifier(name) for name in released}
    (line,) = [line for line in lines if 'released' in line]
    assert f"'{path}' has the released names" in line and 'head.fc.*' in line
    for other in ({'state_dict': checkpoint['state_dict']}, {'w': torch.ones(2)}, {'epoch': 3}):
        path = saved(tmp_path, other)
        assert CheckpointLoader.load_checkpoint(str(path), logger='silent').keys() == other.keys()
    assert len([line for line in lines if 'released' in line]) == 1


def test_checkpoint_of_the_released_training_code(tmp_path, released):
    state = {'state': {0: {'step': 3, 'exp_avg': torch.zeros(5)}}, 'param_groups': [{'lr': 0.1, 'params': [0]}]}
    options = argparse.Namespace(model='AttNet_T2', lr=4e-3, log_freq=[250, 280], resume=None)
    path = saved(
        tmp_path, {'model': released, 'optimizer': state, 'epoch': 299, 'model_ema': released, 'args': options}
    )
    result = convert_names(path, 'mmpretrain')
    assert torch.equal(result.after['head.fc.bias'], released['head.bias'])
    assert set(result.dropped) == {'optimizer', 'epoch', 'model_ema', 'args'}
    assert result.dropped['optimizer'] == '1 tensors, 20 bytes'


def test_round_trip(tmp_path, released):
    there = save(convert_names(saved(tmp_path, {'model': released}), 'mmpretrain'), tmp_path / 'there.pth')
    back = save(convert_names(there, 'released'), tmp_path / 'back.pth')
    content = read_checkpoint(back)
    assert list(content) == ['model'] and list(content['model']) == list(released)
    assert all(torch.equal(content['model'][name], value) for name, value in released.items())
    for name in released:
        assert to_released(to_classifier(name)) == name
    assert to_released('neck.weight') is None


def test_report_rows(tmp_path, released):
    path = saved(tmp_path, {'model': released, 'epoch': 3})
    result = convert_names(path, 'mmpretrain')
    rows = report_rows(result, [save(result, tmp_path / 'out.pth')])
    names = len(released)
    bytes_ = sum(value.numel() * value.element_size() for value in released.values())
    assert ('model', '', 'an AttNet of depths (1, 1) and dims (8, 12) (inferred from the shapes)') in rows
    assert (f'renamed: {names - 2}', '*', 'backbone.*') in rows
    assert ('renamed: 2', 'head.*', 'head.fc.*') in rows
    assert ('tensors', str(names), str(names)) in rows
    assert ('their types', f'{names - 3} float32, 3 int64', f'{names - 3} float32, 3 int64') in rows
    assert ('their size', f'{bytes_ / 1e6:.2f} MB', f'{bytes_ / 1e6:.2f} MB') in rows
    assert ('dropped', 'epoch: int', '') in rows
    back = convert_names(tmp_path / 'out.pth', 'released')
    rows = report_rows(back, [save(back, tmp_path / 'back.pth')])
    assert (f'renamed: {names - 2}', 'backbone.*', '*') in rows
    assert ('renamed: 2', 'head.fc.*', 'head.*') in rows


# ---- which AttNet it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('arch', AttNet.arch_settings)
def test_arch_is_inferred(arch):
    assert infer_arch(expected_state(arch, num_classes=1000)) == arch


def test_arch_without_a_name_is_inferred():
    for name in ('attnet_tiny', 'attnet_tiny_k7533_nonorm'):
        arch, weights, _ = golden(name)
        found = infer_arch(weights)
        assert {key: found[key] for key in arch if key != 'exp_rates'} == {
            k: v for k, v in arch.items() if k != 'exp_rates'
        }
        shapes = {key: value.shape for key, value in expected_state(found, num_classes=10).items()}
        assert shapes == {key: value.shape for key, value in weights.items()}


def test_names_that_are_released():
    block = {'stages.0.0.token_mixer.proj.bias': 0}
    assert is_released({**block, 'norm.weight': 0, 'head.weight': 0, 'downsample_layers.0.0.weight': 0})
    assert not is_released({f'backbone.{name}': 0 for name in block})
    assert not is_released({**block, 'out_norms.0.weight': 0})
    convnext = ['downsample_layers.0.0.weight', 'stages.0.0.dwconv.weight', 'norm.weight', 'head.weight']
    assert not is_released(dict.fromkeys(convnext))


# ---- refusals --------------------------------------------------------------------------------------------------------


def xxs(tmp_path):
    state = AttNet('XXS', gap_before_final_norm=True).state_dict()
    return {**state, 'head.weight': torch.zeros(1000, 240), 'head.bias': torch.zeros(1000)}


def test_another_arch_names_the_first_tensor_and_both_shapes(tmp_path):
    path = saved(tmp_path, {'model': xxs(tmp_path)})
    assert convert_names(path, 'mmpretrain').model == 'AttNet-XXS (inferred from the shapes)'
    assert convert_names(path, 'mmpretrain', 'xxs').model == 'AttNet-XXS (given)'
    sentence = (
        f"checkpoint '{path}' is not AttNet-T2: downsample_layers.0.0.0.weight is (16, 3, 3, 3) in the file and "
        '(32, 3, 3, 3) in AttNet-T2; it is AttNet-XXS.'
    )
    with pytest.raises(UserError) as error:
        convert_names(path, 'mmpretrain', 'T2')
    assert str(error.value) == sentence
    converted = save(convert_names(path, 'mmpretrain'), tmp_path / 'mm.pth')
    with pytest.raises(UserError) as error:
        convert_names(converted, 'released', 't2')
    assert str(error.value) == sentence.replace(str(path), str(converted)).replace('not AttNet-t2', 'not AttNet-T2')
    with pytest.raises(UserError, match="no arch 'T9'; choose from XXS, XS"):
        convert_names(path, 'mmpretrain', 'T9')


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda s: s.pop('stages.1.0.norm_2.bias'), r'stages\.1\.0\.norm_2\.bias \(12,\) is not in the file'),
        (lambda s: s.pop('head.bias'), r'head\.bias \(10,\) is not in the file'),
        (
            lambda s: s.update({'stages.1.0.token_mixer.proj.bias': torch.zeros(7)}),
            r'proj\.bias is \(7,\) in the file and \(12,\) in an AttNet of depths \(1, 1\)',
        ),
        (lambda s: s.update({'head.scale': torch.zeros(4)}), r'head\.scale \(4,\) is not in an AttNet'),
        (
            lambda s: s.update({'neck.w': torch.zeros(3)}),
            r"not a released AttNet's: neck\.w \(3,\) is not one of its names",
        ),
        (lambda s: s.pop('stages.0.0.norm_1.weight'), r'every AttNet has a tensor stages\.0\.0\.norm_1\.weight'),
    ],
)
def test_what_is_no_released_classifier(tmp_path, released, change, named):
    change(released)
    path = saved(tmp_path, {'model': released})
    with pytest.raises(UserError, match=named):
        convert_names(path, 'mmpretrain')


def test_each_way_refuses_what_the_other_takes(tmp_path, released):
    path = saved(tmp_path, {'model': released})
    with pytest.raises(
        UserError, match=r"not an mmpretrain classifier's: downsample_layers\.0\.0\.0\.weight \(4, 3, 3, 3\)"
    ):
        convert_names(path, 'released')
    with pytest.raises(UserError, match=r"no entry 'state_dict', but 'model'; convert_names\.py"):
        publishable(path)
    there = save(convert_names(path, 'mmpretrain'), tmp_path / 'there.pth')
    with pytest.raises(
        UserError, match=r'backbone\.downsample_layers\.0\.0\.0\.weight \(4, 3, 3, 3\) is not one of its names'
    ):
        convert_names(there, 'mmpretrain')


def test_nothing_is_overwritten(tmp_path, released):
    result = convert_names(saved(tmp_path, {'model': released}), 'mmpretrain')
    (tmp_path / 'mine.pth').write_text('mine')
    with pytest.raises(UserError, match=r"mine\.pth' exists already"):
        save(result, tmp_path / 'mine.pth')
    with pytest.raises(UserError, match=r"out\.bin' must end in \.pth or \.safetensors"):
        save(result, tmp_path / 'out.bin')
    assert (tmp_path / 'mine.pth').read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['checkpoint.pth', 'mine.pth']


class Hostile:
    """Unpickles by running a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('read', [publishable, *(partial(convert_names, to=naming) for naming in NAMINGS)])
def test_code_in_a_checkpoint_does_not_run(tmp_path, released, read):
    for key in ('model', 'state_dict'):
        path = saved(tmp_path, {key: released, 'args': Hostile(f'touch {tmp_path}/ran')})
        with pytest.raises(UserError, match='restoring it would run code'):
            read(path)
    assert not (tmp_path / 'ran').exists()


def test_backbone_refuses_to_load_in_part(tmp_path, safe_loader, released):
    path = str(saved(tmp_path, {'model': released}))
    model = classifier(dict(ARCH, dims=[8, 16]))
    refuse_other_sizes(model.backbone)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = r'backbone\.downsample_layers\.1\.0\.weight is \(12, 8, 3, 3\) there and \(16, 8, 3, 3\) in this AttNet'
    with pytest.raises(UserError, match=message):
        load_checkpoint(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if 'backbone' in name)
    averaged = {f'module.{name}': value for name, value in classifier(ARCH).state_dict().items()}
    with pytest.raises(UserError, match=f'another model: {message}'):
        ExponentialMovingAverage(model).load_state_dict(averaged)
    # Another number of classes is what fine-tuning is for.
    model = classifier(ARCH, num_classes=3)
    refuse_other_sizes(model.backbone)
    load_checkpoint(model, path)
    assert torch.equal(model.backbone.norm.weight, released['norm.weight'])
