"""From the normalised image to what the heads see."""

from copy import copy
from typing import Any

from torch import Tensor, nn

from mmatconv.openmmlab.padding_guard import set_current_mask


class Maps(nn.Module):
    """Backbone and neck of a model.

    In a list of their own: what stands beside a backbone with ``mask_padding`` is taken for a head of its model, and
    gets hooks for the padding (padding_guard.py) where the heads have theirs already.

    Args:
        model: Of mmdet, mmseg or mmpretrain.
        padded: Whether the images are padded. Those that are not need no masks, whose sizes follow those of the maps
            at every size only where a stride of 32 divides the image, as padding makes it.
    """

    def __init__(self, model: nn.Module, padded: bool) -> None:
        super().__init__()
        backbone = model.backbone
        self.unmasked = getattr(backbone, 'mask_padding', False) and not padded
        if self.unmasked:
            backbone = copy(backbone)  # the same parameters
            backbone.mask_padding = False
        self.parts = nn.ModuleList(part for part in (backbone, getattr(model, 'neck', None)) if part is not None)

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) -> what the last part returns, a tuple of maps."""
        if self.unmasked:
            set_current_mask(None)
        for part in self.parts:
            image = part(image)
        return image
