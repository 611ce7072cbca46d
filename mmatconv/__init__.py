"""mmatconv: Attentive Convolution (arXiv 2510.20092) for OpenMMLab, and for plain torch.

Importing it needs torch only and imports nothing of OpenMMLab. The backbones are registered in MMEngine's root
registry once both are imported, in either order: ``type='mmatconv.AttNet'`` builds in any config of mmdet, mmseg and
mmpretrain, and ``type='AttNet'`` where mmatconv is imported.
"""

from importlib import import_module

from mmatconv.errors import UserError
from mmatconv.layers import ATConv
from mmatconv.openmmlab.import_hook import when_imported
from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.version import __version__

__all__ = [
    'ACmixResNet',
    'ATConv',
    'ATConvPVT',
    'ATConvSwin',
    'AttNet',
    'FPNFeatures',
    'SiT',
    'UserError',
    '__version__',
    'deploy',
    'dynamic_depthwise_conv2d',
    'features_only',
    'load_pretrained',
]

# Imported when first used. Configs and programs name these, as ``type='mmatconv.NonFiniteLossHook'``.
_LAZY = {
    'ACmixResNet': 'mmatconv.backbones',
    'AttNet': 'mmatconv.backbones',
    'ATConvPVT': 'mmatconv.backbones',
    'ATConvSwin': 'mmatconv.backbones',
    'FPNFeatures': 'mmatconv.backbones.features',
    'features_only': 'mmatconv.backbones.features',
    'load_pretrained': 'mmatconv.checkpoint.loading',
    'SiT': 'mmatconv.generation',
    'FlowMatching': 'mmatconv.generation.flow_matching',
    'LoadLatent': 'mmatconv.generation.load_latent',
    'BatchHardTripletLoss': 'mmatconv.retrieval.triplet',
    'CrossModalityMetric': 'mmatconv.retrieval.metric',
    'IdentitySampler': 'mmatconv.retrieval.identity_sampler',
    'LLCM': 'mmatconv.retrieval.llcm',
    'ReIDHead': 'mmatconv.retrieval.head',
    'VCM': 'mmatconv.retrieval.vcm',
    'AdaptiveGradClipHook': 'mmatconv.engine.optim.adaptive_grad_clip',
    'LayerDecayOptimWrapperConstructor': 'mmatconv.engine.optim.layer_decay',
    'NonFiniteLossHook': 'mmatconv.engine.hooks.nonfinite',
    'use_safe_loader': 'mmatconv.openmmlab.checkpoint_loader',
}


def __getattr__(name: str) -> object:
    if name == 'deploy':
        return import_module('mmatconv.deploy')
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        value = getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition('.')[0].replace('mmengine', 'MMEngine')
        raise ImportError(f"mmatconv.{name} needs {package}; install it with 'pip install mmatconv[onedl]'.") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY})


def _register() -> None:
    from mmatconv.openmmlab.config_packages import register_config_packages

    register_config_packages()
    import_module('mmatconv.backbones')  # whoever defines a backbone registers it


when_imported('mmengine', _register)
