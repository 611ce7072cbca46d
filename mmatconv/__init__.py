"""mmatconv: Attentive Convolution (arXiv 2510.20092) for OpenMMLab, and for plain torch.

Importing it needs torch only. Where MMEngine is installed the backbones are registered in its root registry, so
that ``type='mmatconv.AttNet'`` builds in any config of mmdet, mmseg and mmpretrain.
"""

from importlib.util import find_spec

from mmatconv import deploy
from mmatconv.errors import UserError
from mmatconv.layers import ATConv
from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.version import __version__

__all__ = [
    'ATConv',
    'ATConvPVT',
    'ATConvSwin',
    'AttNet',
    'UserError',
    '__version__',
    'deploy',
    'dynamic_depthwise_conv2d',
]

if find_spec('mmengine') is not None:
    from mmatconv.backbones import ATConvPVT, ATConvSwin, AttNet
    from mmatconv.openmmlab.config_paths import register_config_packages

    register_config_packages()
else:

    def __getattr__(name: str) -> object:
        if name in ('AttNet', 'ATConvPVT', 'ATConvSwin'):
            raise ImportError(f"mmatconv.{name} needs MMEngine; install it with 'pip install mmatconv[onedl]'.")
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
