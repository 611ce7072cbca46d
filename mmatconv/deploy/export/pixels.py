"""From pixels to what a backbone gets: the data preprocessors of the three packages as a module."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.deploy.export.checks import refuse_other


class Pixels(nn.Module):
    """Order of the channels, normalisation and padding, as a data preprocessor has them in testing.

    Args:
        preprocessor: DetDataPreprocessor, SegDataPreProcessor or ClsDataPreprocessor.

    Raises:
        UserError: It is of another class.
    """

    def __init__(self, preprocessor: nn.Module) -> None:
        super().__init__()
        kinds = ('DetDataPreprocessor', 'SegDataPreProcessor', 'ClsDataPreprocessor')
        kind = refuse_other(preprocessor, 'data_preprocessor', kinds)
        to_rgb = preprocessor.to_rgb if kind == 'ClsDataPreprocessor' else preprocessor._channel_conversion
        self.flip = bool(to_rgb)
        self.normalize = bool(preprocessor._enable_normalize)
        if self.normalize:
            self.register_buffer('mean', preprocessor.mean.detach().clone())
            self.register_buffer('std', preprocessor.std.detach().clone())
        in_testing = getattr(preprocessor, 'test_cfg', None) or {}
        self.size = in_testing.get('size')
        self.divisor = in_testing.get('size_divisor') or getattr(preprocessor, 'pad_size_divisor', 1)
        self.fill = getattr(preprocessor, 'pad_val', getattr(preprocessor, 'pad_value', 0))

    @property
    def pads(self) -> bool:
        """Whether images of some size are padded."""
        return self.size is not None or self.divisor > 1

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) pixels, 0 to 255 -> (B, C, H', W'), padded at the right and at the bottom."""
        image = image.float()
        if self.flip and image.shape[1] == 3:
            image = image.flip(1)
        if self.normalize:
            image = (image - self.mean) / self.std
        height, width = image.shape[2:]
        if self.size is not None:
            below, right = (torch.sym_max(wanted - side, 0) for wanted, side in zip(self.size, (height, width)))
        else:
            below, right = ((side + self.divisor - 1) // self.divisor * self.divisor - side for side in (height, width))
        return F.pad(image, (0, right, 0, below), value=self.fill)
