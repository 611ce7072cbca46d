"""Segmentors of mmseg as one function of images."""

from copy import deepcopy
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.deploy.export.checks import refuse_other
from mmatconv.deploy.export.maps import Maps
from mmatconv.deploy.export.pixels import Pixels
from mmatconv.errors import UserError


class Segmentor(nn.Module):
    """The class scores of every pixel, of an EncoderDecoder (SemanticFPN is one) that sees the image whole.

    Args:
        model: In evaluation mode.

    Raises:
        UserError: A head that does not predict scores for each pixel, or prediction in sliding windows.
    """

    task = 'segmentation'
    batch = None
    outputs = ('logits',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from mmseg.models.decode_heads.decode_head import BaseDecodeHead

        refuse_other(model, 'model', ['EncoderDecoder'])
        head = model.decode_head
        own = [
            name
            for name in ('predict', 'predict_by_feat')
            if getattr(type(head), name, None) is not getattr(BaseDecodeHead, name)
        ]
        if own:
            raise UserError(f'decode_head is {type(head).__name__}, which cannot be exported: its {own[0]} is its own')
        if model.test_cfg.get('mode', 'whole') != 'whole':
            raise UserError(
                f'model.test_cfg.mode={model.test_cfg.mode!r} cannot be exported: windows depend on the size of the '
                'image; add --cfg-options model.test_cfg.mode=whole'
            )
        self.pixels = Pixels(model.data_preprocessor)
        self.maps = Maps(model, self.pixels.pads)
        self.head = _sizes_kept(deepcopy(head))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Pixels (B, C, H, W) -> logits (B, classes, H, W)."""
        padded = self.pixels(image)
        logits = self.head(self.maps(padded))
        logits = F.interpolate(logits, size=padded.shape[2:], mode='bilinear', align_corners=self.head.align_corners)
        return (logits[..., : image.shape[2], : image.shape[3]],)


def _sizes_kept(head: nn.Module) -> nn.Module:
    """Has every Upsample by a whole factor compute with whole numbers.

    Its own sizes go through a float and ``int()``, which makes those of the exported image constants of the graph.
    """
    from mmseg.models.utils import Upsample

    for layer in head.modules():
        if type(layer) is Upsample and not layer.size and float(layer.scale_factor).is_integer():
            layer.forward = partial(_enlarge, int(layer.scale_factor), layer.mode, layer.align_corners)
    return head


def _enlarge(factor: int, mode: str, align_corners: bool | None, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, factor * H, factor * W)."""
    return F.interpolate(x, size=[side * factor for side in x.shape[2:]], mode=mode, align_corners=align_corners)
