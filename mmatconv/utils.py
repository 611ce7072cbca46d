"""What MMEngine's hub calls before it builds a model of ``mmengine.hub.get_model('mmatconv::...')``."""

from importlib import import_module
from importlib.util import find_spec

from mmatconv.openmmlab.checkpoint_loader import register_published_weights

PACKAGES = ('mmdet', 'mmseg', 'mmpretrain')


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register the modules of every installed package that a config here may be written for, and where weights are.

    Args:
        init_default_scope: Where the scope is 'mmatconv', as the hub sets it, make it mmpretrain: detectors and
            segmentors inherit a scope of their own from the configs of mmdet and mmseg, classifiers have none.
            Default: True.
    """
    from mmengine.registry import DefaultScope

    for package in PACKAGES:
        if find_spec(package) is not None:
            import_module(f'{package}.utils').register_all_modules(init_default_scope=False)
    register_published_weights()
    scope = DefaultScope.get_current_instance()
    if init_default_scope and scope is not None and scope.scope_name == 'mmatconv':
        DefaultScope.get_instance('mmatconv-classifiers', scope_name='mmpretrain')
