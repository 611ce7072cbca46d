"""Where MMEngine finds the configs behind ``_base_ = 'mmseg::...'`` and ``'mmatconv::...'``."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from mmatconv.openmmlab.log import log_change

SCOPE = 'mmatconv'


def register_config_packages() -> None:
    """Tell MMEngine which installed package holds the configs of a scope. Calling it again changes nothing.

    MMEngine looks for mmseg's configs in a distribution called mmsegmentation. The maintained one is called
    onedl-mmsegmentation, so every ``mmseg::`` config would end in 'mmsegmentation is not installed'; there the
    name of the module leads to the same files.

    mmatconv's own configs lie in ``.mim`` beside this package. Under the name of the distribution MMEngine would look
    where that is installed, which is nowhere for a checkout, and a folder without files for an editable installation;
    the name of a module always leads to the package that was imported.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    if SCOPE in MODULE2PACKAGE:
        return
    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        if find_spec('mmseg') is not None:
            MODULE2PACKAGE['mmseg'] = 'mmseg'
            log_change("MODULE2PACKAGE['mmseg']", 'mmseg:: configs are found with onedl-mmsegmentation')
    MODULE2PACKAGE[SCOPE] = 'mmatconv.utils'  # its folder holds .mim
    log_change("MODULE2PACKAGE['mmatconv']", 'mmatconv:: configs are found beside the imported package')
    _inherit_without_scope()


def _inherit_without_scope() -> None:
    """Let ``_base_ = 'mmatconv::...'`` inherit as the path of the same file does.

    MMEngine marks what such a base holds to be built from the registries of its package. mmatconv has none: the
    types are mmdet's, mmseg's and mmpretrain's, and a model marked 'mmatconv' would not be found.
    """
    from mmengine.config import Config

    locate = Config._get_cfg_path

    def locate_without_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = locate(cfg_path, filename)
        return path, None if scope == SCOPE else scope

    Config._get_cfg_path = staticmethod(locate_without_scope)
    log_change('Config._get_cfg_path', 'types of a mmatconv:: base keep the scope of the config that inherits')
