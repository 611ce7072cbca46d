"""Segmentors of mmseg as one function of images."""

from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.deploy.export.checks import child, refuse_other
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
        self.backbone = model.backbone
        self.neck = child(model, 'neck')
        self.head = _sizes_kept(deepcopy(head))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Pixels (B, C, H, W) -> logits (B, classes, H, W)."""
        padded = self.pixels(image)
        maps = self.backbone(padded)
        logits = self.head(maps if self.neck is None else self.neck(maps))
        logits = F.interpolate(logits, size=padded.shape[2:], mode='bilinear', align_corners=self.head.align_corners)
        return (logits[..., : image.shape[2], : image.shape[3]],)


class Enlarge(nn.Module):
    """mmseg's Upsample by a whole factor.

    Its own sizes go through a float and ``int()``, which makes those of the exported image constants of the graph.
    """

    def __init__(self, factor: int, mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.factor, self.mode, self.align_corners = factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, factor * H, factor * W)."""
        size = [side * self.factor for side in x.shape[2:]]
        return F.interpolate(x, size=size, mode=self.mode, align_corners=self.align_corners)


def _sizes_kept(head: nn.Module) -> nn.Module:
    """The head with Enlarge in the place of every Upsample by a whole factor."""
    from mmseg.models.utils import Upsample

    for parent in list(head.modules()):
        for name, layer in parent.named_children():
            if type(layer) is Upsample and not layer.size and float(layer.scale_factor).is_integer():
                setattr(parent, name, Enlarge(int(layer.scale_factor), layer.mode, layer.align_corners))
    return head
