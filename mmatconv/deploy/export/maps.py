"""From the normalised image to what the heads see."""

from typing import Any

from torch import Tensor, nn

from mmatconv.deploy.export.checks import child


class Maps(nn.Module):
    """Backbone and neck of a model.

    In a list of their own: what stands beside a backbone with ``mask_padding`` is taken for a head of its model, and
    gets hooks for the padding (padding_guard.py) where the heads have theirs already.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part in (model.backbone, child(model, 'neck')) if part is not None)

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) -> what the last part returns, a tuple of maps."""
        for part in self.parts:
            image = part(image)
        return image
