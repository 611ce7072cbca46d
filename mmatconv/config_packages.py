"""Where MMEngine finds the configs behind ``_base_ = 'mmseg::...'`` and ``'mmatconv::...'``."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def register_config_packages() -> None:
    """Tell MMEngine which installed package holds the configs of a scope.

    MMEngine looks for mmseg's configs in a distribution called mmsegmentation. The maintained one is called
    onedl-mmsegmentation, so every ``mmseg::`` config would end in 'mmsegmentation is not installed'; there the
    name of the module leads to the same files. mmatconv's own configs are added.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmatconv', 'mmatconv')
    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'
