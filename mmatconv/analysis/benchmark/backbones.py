"""Backbones: ours in all variants, and the PVT or Swin of mmdet of the same size."""

from collections.abc import Callable

from mmengine.registry import MODELS
from torch import nn

from mmatconv.analysis.benchmark.backbone_variants import RELEASED, variants
from mmatconv.analysis.benchmark.case import Candidate, Case, Setting
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.build_model import quiet
from mmatconv.analysis.paper.models import pvt, swin
from mmatconv.backbones import ATConvPVT, ATConvSwin, AttNet

FAMILIES = {'attnet': AttNet, 'atconv-pvt': ATConvPVT, 'atconv-swin': ATConvSwin}
ORIGINALS: dict[str, Callable] = {'atconv-pvt': pvt, 'atconv-swin': swin}
MODELS_BY_NAME = {
    f'{family}-{arch.lower()}': (family, arch) for family, kind in FAMILIES.items() for arch in kind.arch_settings
}
DEFAULT_MODELS = ('attnet-t2', 'atconv-pvt-tiny', 'atconv-swin-tiny')


def backbone_case(name: str, setting: Setting) -> Case:
    """One of ours, its variants, and the original with attention; each returns four maps.

    Args:
        name: A key of ``MODELS_BY_NAME``.
        setting: The setting.
    """
    family, arch = MODELS_BY_NAME[name]
    x = setting.random(3)
    candidates = list(variants(lambda options: randomize(FAMILIES[family](arch, **options)), lambda m: m, x, setting))
    reference, left_out = RELEASED, []
    if family in ORIGINALS:
        attention = family.removeprefix('atconv-')
        try:
            candidates.append(Candidate(attention, original(family, arch).to(setting.device), (x,)))
            reference = attention
        except ImportError as error:
            left_out.append(f'{attention}: mmdet cannot be imported ({error})')
    return Case('backbone', name, setting, reference, candidates, autocast=True, left_out=left_out)


def original(family: str, arch: str) -> nn.Module:
    """mmdet's PVT or Swin.

    Raises:
        ImportError: mmdet, or mmcv with its compiled ops, is missing.
    """
    with quiet():
        import mmdet.models  # noqa: F401  registers them

        return MODELS.build(ORIGINALS[family](arch).settings)
