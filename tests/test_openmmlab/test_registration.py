"""Found by name from every OpenMMLab registry, whatever is imported first, and harmless without MMEngine."""

import subprocess
import sys

import pytest

BUILD = """
from {package}.registry import MODELS
import sys
assert 'mmatconv' not in sys.modules
for name, arch in (('AttNet', 'XXS'), ('ATConvPVT', 'tiny')):
    model = MODELS.build(dict(type=f'mmatconv.{{name}}', arch=arch))
    print('built', name, type(model).__module__)
"""
CUSTOM_IMPORTS = """
from mmengine.config import Config
Config.fromfile(r'{config}')
from mmdet.registry import MODELS
print('built', type(MODELS.build(dict(type='AttNet', arch='XXS'))).__module__)
"""
TORCH_ONLY = """
import sys
for name in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'numpy', 'safetensors', 'torchvision'):
    sys.modules[name] = None  # as if not installed

import torch
import mmatconv
from mmatconv import ATConv, ATConvPVT, ATConvSwin, AttNet, UserError, features_only

print('shape', tuple(ATConv(4)(torch.randn(1, 4, 8, 8)).shape))
print('folds', mmatconv.deploy.fold.__name__)
narrow = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
for kind in (AttNet, ATConvPVT, ATConvSwin):
    model = kind(narrow)
    print(kind.__name__, [tuple(x.shape) for x in model(torch.randn(1, 3, 64, 64))])
    # As the released code saves them, with a head.
    state = {**model.state_dict(), 'head.weight': torch.ones(2), 'head.bias': torch.ones(2)}
    torch.save({'model': state}, 'released.pth')
    other = kind(narrow, init_cfg=dict(type='Pretrained', checkpoint='released.pth'))
    other.init_weights()
    assert all(map(torch.equal, model.parameters(), other.parameters()))
features = features_only('attnet_xxs', out_indices=(1, 3))
print('features', [tuple(x.shape) for x in features(torch.randn(1, 3, 64, 64))])
try:
    AttNet(narrow, init_cfg=dict(type='Xavier')).init_weights()
except UserError as error:
    print('says', error)
print('loaded', [name for name in sys.modules if name.startswith(('mmengine.', 'mmcv.', 'mmdet.'))])
"""
MMATCONV_FIRST = """
import importlib.util, logging, sys
changes = []
logger = logging.getLogger('mmatconv')
logger.addHandler(logging.Handler())
logger.handlers[0].emit = lambda record: changes.append(record.getMessage())
logger.setLevel('DEBUG')

import torch
before = torch.load, list(torch.nn.modules.module._global_module_registration_hooks)
import mmatconv
loaded = [name for name in sys.modules if name.startswith('mm') and not name.startswith(('mmatconv', 'mmap'))]
assert loaded == [], loaded
assert set(mmatconv.__all__) <= set(dir(mmatconv)) >= {'NonFiniteLossHook', 'LayerDecayOptimWrapperConstructor'}
assert importlib.util.find_spec('mmengine') and 'mmengine' not in sys.modules

import mmengine
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
assert MODELS.get('AttNet') is mmatconv.AttNet and MODELS.get('mmatconv.ATConvSwin') is mmatconv.ATConvSwin
assert (torch.load, list(torch.nn.modules.module._global_module_registration_hooks)) == before
assert [change.split()[1] for change in changes] == [
    'sys.meta_path', "MODULE2PACKAGE['mmseg']", "MODULE2PACKAGE['mmatconv']", 'Config._get_cfg_path',
] or len(changes) == 3, changes  # mmsegmentation needs no entry of its own
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith('mmatconv')]

from mmengine.config import Config
from pathlib import Path
Path('mine.py').write_text("_base_ = ['mmatconv::sem_fpn/fpn_attnet-xxs_8xb4-40k_ade20k-512x512.py']")
assert Config.fromfile('mine.py').model.backbone.type == 'mmatconv.AttNet'
Path('mine.py').write_text("_base_ = ['mmseg::_base_/models/fpn_r50.py']")
assert Config.fromfile('mine.py').model.type == 'EncoderDecoder'
for registry, name in (
    (HOOKS, 'NonFiniteLossHook'), (HOOKS, 'AdaptiveGradClipHook'),
    (OPTIM_WRAPPER_CONSTRUCTORS, 'LayerDecayOptimWrapperConstructor'),
):
    assert registry.get(f'mmatconv.{name}') is getattr(mmatconv, name)
print('done')
"""


def python(code, folder=None):
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize('package', ['mmdet', 'mmseg', 'mmpretrain'])
def test_scoped_names_build_with_nothing_imported(package):
    output = python(BUILD.format(package=package))
    assert 'built AttNet mmatconv.backbones.attnet' in output
    assert 'built ATConvPVT mmatconv.backbones.atconv_pvt' in output


def test_bare_name_builds_after_custom_imports(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['mmatconv'], allow_failed_imports=False)\n")
    assert 'built mmatconv.backbones.attnet' in python(CUSTOM_IMPORTS.format(config=config))


def test_mmatconv_first_imports_nothing_and_registers_when_mmengine_comes(tmp_path):
    assert python(MMATCONV_FIRST, tmp_path).endswith('done\n')


def test_torch_alone_is_enough_for_layers_and_backbones(tmp_path):
    output = python(TORCH_ONLY, tmp_path)
    assert 'shape (1, 4, 8, 8)' in output and 'folds fold' in output
    for name in ('AttNet', 'ATConvPVT', 'ATConvSwin'):
        assert f'{name} [(1, 8, 16, 16), (1, 16, 8, 8), (1, 24, 4, 4), (1, 32, 2, 2)]' in output
        assert f"{name} from 'released.pth': " in output and 'tensors loaded, 0 missing, 2 unused' in output
    assert 'features [(1, 64, 8, 8), (1, 240, 2, 2)]' in output
    assert "says init_cfg [{'type': 'Xavier'}] needs MMEngine" in output
    assert 'loaded []' in output
