"""The models behind the rows of the tables, as the paper counts them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config
from torch import Tensor, nn

from mmatconv.analysis.complexity.config_complexity import count_config
from mmatconv.analysis.complexity.counter import Complexity, count
from mmatconv.analysis.paper.figures import Counted
from mmatconv.backbones import ATConvPVT, ATConvSwin, AttNet
from mmatconv.layers import ATConv

PVT_DEPTHS = {name: settings['depths'] for name, settings in ATConvPVT.arch_settings.items()}
PVT_V2_DEPTHS = {'b1': (2, 2, 2, 2), 'b2': (3, 4, 6, 3), 'b3': (3, 4, 18, 3), 'b4': (3, 8, 27, 3), 'b5': (3, 6, 40, 3)}
PVT_CHANNELS = (64, 128, 320, 512)
SWIN_HEADS = {'tiny': (3, 6, 12, 24), 'small': (3, 6, 12, 24), 'base': (4, 8, 16, 32)}


@dataclass(frozen=True)
class Backbone:
    """The settings of a backbone and the channels of its four maps."""

    settings: Mapping[str, Any]
    channels: tuple[int, ...]


def attnet(arch: str, **options: Any) -> Backbone:
    """AttNet: 'T1' to 'T4'; options are the class's own."""
    return Backbone(dict(type='mmatconv.AttNet', arch=arch, **options), AttNet.arch_settings[arch]['dims'])


def atconv_pvt(arch: str) -> Backbone:
    """ATConv-PVT: 'tiny' to 'large'."""
    return Backbone(dict(type='mmatconv.ATConvPVT', arch=arch), PVT_CHANNELS)


def atconv_swin(arch: str) -> Backbone:
    """ATConv-Swin: 'tiny', 'small', 'base'."""
    return Backbone(dict(type='mmatconv.ATConvSwin', arch=arch), ATConvSwin.arch_settings[arch]['dims'])


def inline_pvt(arch: str) -> Backbone:
    """InLine-PVT as its code has it: 'tiny' to 'large'."""
    mixer = dict(type='InLineAttention', num_heads=[2, 4, 10, 16], qkv_bias=True, lepe=False)
    settings = dict(depths=PVT_DEPTHS[arch], positions=[56, 28, 14, 7])
    return Backbone(dict(type='mmatconv.ATConvPVT', arch=settings, token_mixer=mixer), PVT_CHANNELS)


def pvt(arch: str) -> Backbone:
    """mmdet's PVT: 'tiny' to 'large'."""
    return Backbone(dict(type='mmdet.PyramidVisionTransformer', num_layers=PVT_DEPTHS[arch]), PVT_CHANNELS)


def pvt_v2(arch: str) -> Backbone:
    """mmdet's PVTv2: 'b1' to 'b5'."""
    settings = dict(num_layers=PVT_V2_DEPTHS[arch], mlp_ratios=(4, 4, 4, 4) if arch == 'b5' else (8, 8, 4, 4))
    return Backbone(dict(type='mmdet.PyramidVisionTransformerV2', **settings), PVT_CHANNELS)


def swin(arch: str, **options: Any) -> Backbone:
    """mmdet's Swin Transformer: 'tiny', 'small', 'base'; options are the class's own."""
    ours = ATConvSwin.arch_settings[arch]
    settings = dict(embed_dims=ours['dims'][0], depths=ours['depths'], num_heads=SWIN_HEADS[arch], **options)
    return Backbone(dict(type='mmdet.SwinTransformer', **settings), ours['dims'])


def resnet50() -> Backbone:
    """mmpretrain's ResNet-50."""
    return Backbone(dict(type='mmpretrain.ResNet', depth=50), (256, 512, 1024, 2048))


def convnext_tiny() -> Backbone:
    """mmpretrain's ConvNeXt-Tiny."""
    return Backbone(dict(type='mmpretrain.ConvNeXt', arch='tiny', gap_before_final_norm=False), (96, 192, 384, 768))


class MeanOverPositions(nn.Module):
    """mmpretrain's global average pooling, for mmdet's backbones: they return lists, which that does not take."""

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """The last of the maps, (B, C, H, W) -> (B, C)."""
        return (maps[-1].mean(dim=(2, 3)),)


def classifier(backbone: Backbone) -> Config:
    """A backbone with 1000 classes."""
    settings, neck = dict(backbone.settings), None
    if settings['type'].startswith('mmatconv.'):
        settings['gap_before_final_norm'] = True
    elif settings['type'] == 'mmdet.PyramidVisionTransformer':
        settings['type'] = f'{__package__}.official_pvt.OfficialPVT'
    else:
        settings['out_indices'] = (3,)
        neck = dict(type=MeanOverPositions)
    head = dict(type='LinearClsHead', num_classes=1000, in_channels=backbone.channels[-1])
    return _config('mmpretrain', dict(type='ImageClassifier', backbone=settings, neck=neck, head=head))


def mask_rcnn(backbone: Backbone) -> Config:
    """mmdet's Mask R-CNN with FPN on COCO's 80 classes."""
    model = get_config('mmdet::_base_/models/mask-rcnn_r50_fpn.py').model
    model.backbone = dict(backbone.settings)
    model.neck.in_channels = list(backbone.channels)
    return _config('mmdet', model)


def sem_fpn(backbone: Backbone) -> Config:
    """mmseg's SemanticFPN on ADE20K's 150 classes."""
    model = get_config('mmseg::_base_/models/fpn_r50.py').model
    model.pretrained = None
    model.backbone = dict(backbone.settings)
    model.neck.in_channels = list(backbone.channels)
    model.decode_head.num_classes = 150
    return _config('mmseg', model)


def fvcore(complexity: Complexity) -> int:
    """The total of fvcore, with its estimates for norms and resampling."""
    return complexity.flops


def multiply_adds(complexity: Complexity) -> int:
    """Multiply-adds alone."""
    return complexity.macs


def without_attention_products(complexity: Complexity) -> int:
    """The total of fvcore less the two matrix products of window attention, which MMCV's old counter did not see."""
    return complexity.flops - complexity.operators.get('matmul', 0)


FORMS = {'classifier': classifier, 'mask_rcnn': mask_rcnn, 'sem_fpn': sem_fpn}
_counts: dict[tuple, tuple[Complexity, Complexity | None]] = {}


def counted(
    form: str,
    backbone: Backbone,
    size: tuple[int, int] | None = None,
    flops: Callable[[Complexity], int] = fvcore,
) -> dict[str, Counted]:
    """Parameters in millions and FLOPs in billions of one image, a model counted once however often it is printed.

    Args:
        form: 'classifier', 'mask_rcnn' or 'sem_fpn'.
        backbone: One of the above.
        size: Height and width. Default: 224 x 224, 800 x 1280, 512 x 2048.
        flops: Which operators count. Default: all that fvcore knows.
    """
    key = (form, repr(backbone), size)
    if key not in _counts:
        config = FORMS[form](backbone)
        model, image, paper = count_config(config, size, in_paper_order=True)
        has_atconv = any(isinstance(module, ATConv) for module in model.modules())
        _counts[key] = paper, count(model, (1, 3, *image)) if has_atconv else None
    paper, ours = _counts[key]
    first = None if ours is None else flops(ours) / 1e9
    return {'params': Counted(paper.params / 1e6), 'flops': Counted(flops(paper) / 1e9, first)}


def _config(scope: str, model: Mapping[str, Any]) -> Config:
    return Config(dict(default_scope=scope, model=model))
