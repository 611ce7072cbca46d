"""What token mixers share that look at a whole map: in a padded batch they see each image alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.padding_mask import PaddingMask


class PerImageMixer(nn.Module):
    """A token mixer that leaves padding out by mixing the valid part of each image separately.

    Windows, position codes and large kernels depend on where a map ends, so the exact way to leave padding out is to
    never see it. A subclass defines :meth:`mix`.
    """

    def mix(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), with a ``padding_mask`` as for each image alone and zero in the padding."""
        if padding_mask is None:
            return self.mix(x)
        height, width = x.shape[2:]
        sizes = padding_mask.side_lengths
        mixed = [self.mix(image[None, :, :h, :w]) for image, (h, w) in zip(x, sizes)]
        return torch.cat([F.pad(y, (0, width - w, 0, height - h)) for y, (h, w) in zip(mixed, sizes)])
