"""Found by name from every OpenMMLab registry in a fresh interpreter, and harmless without MMEngine."""

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
from {package}.registry import MODELS
print('built', type(MODELS.build(dict(type='AttNet', arch='XXS'))).__module__)
"""
TORCH_ONLY = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'numpy', 'safetensors'):
            raise ModuleNotFoundError(name)

import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == 'mmengine' else real(name)
sys.meta_path.insert(0, Blocker())
import torch
from mmatconv import ATConv
import mmatconv
print('shape', tuple(ATConv(4)(torch.randn(1, 4, 8, 8)).shape))
try:
    mmatconv.AttNet
except ImportError as error:
    print('says', error)
print('loaded', [name for name in sys.modules if name.startswith(('mmengine', 'mmcv', 'mmdet'))])
"""


def python(code):
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
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
    output = python(CUSTOM_IMPORTS.format(config=config, package='mmdet'))
    assert 'built mmatconv.backbones.attnet' in output


def test_torch_alone_is_enough_for_the_layer():
    output = python(TORCH_ONLY)
    assert 'shape (1, 4, 8, 8)' in output
    assert "mmatconv.AttNet needs MMEngine; install it with 'pip install mmatconv[onedl]'." in output
    assert 'loaded []' in output
