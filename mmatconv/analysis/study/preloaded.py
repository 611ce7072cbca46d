"""What every run imports, once for all of them: it takes as long as a short run."""

from contextlib import suppress
from importlib import import_module

from mmatconv.analysis.build_model import quiet

with quiet():
    for package in ('mmdet.apis', 'mmseg.apis', 'mmpretrain.apis'):
        with suppress(ImportError):
            import_module(package)
    import mmatconv.engine.cli.test
    import mmatconv.engine.cli.train  # noqa: F401
