"""The attention of PVT and of Swin as token mixers: mmdet's own classes, brought to maps and without their residual.

mmdet is imported only when one of them is built.
"""

from importlib import import_module

from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.checks import check_num_heads


def _mmdet_class(module: str, name: str) -> type[nn.Module]:
    """A class of ``mmdet.models.backbones``."""
    try:
        return getattr(import_module(f'mmdet.models.backbones.{module}'), name)
    except ImportError as error:
        raise UserError(
            f"the token mixer uses mmdet's {name}, but mmdet cannot be imported ({error}); "
            "install it with 'pip install mmatconv[onedl]'."
        ) from error


def _to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def _to_map(x: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W)."""
    return x.transpose(1, 2).unflatten(2, (height, width))


class SpatialReductionAttention(nn.Module):
    """PVT's attention: every pixel attends to a map reduced by a strided convolution.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 1.
        sr_ratio: Reduction of keys and values in each direction; the map must be at least as large. Default: 1.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``, or mmdet missing.
    """

    def __init__(self, dim: int, num_heads: int = 1, sr_ratio: int = 1) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        # The eps of mmdet's PVT, where the class itself has another default.
        self.attention = _mmdet_class('pvt', 'SpatialReductionAttention')(
            dim, num_heads, sr_ratio=sr_ratio, norm_cfg=dict(type='LN', eps=1e-6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        size = x.shape[2:]
        # mmdet adds the input where no identity is given; the Block adds its own.
        return _to_map(self.attention(_to_tokens(x), size, identity=x.new_zeros(())), *size)


class WindowAttention(nn.Module):
    """Swin's attention: within windows, which every second block shifts by half their size.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 8.
        window_size: Side of a window in pixels; the map is padded to a multiple. Default: 7.
        block: Index of the block in its stage; odd ones shift. Default: 0.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``, or mmdet missing.
    """

    def __init__(self, dim: int, num_heads: int = 8, window_size: int = 7, block: int = 0) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        shift_size = window_size // 2 if block % 2 else 0
        self.attention = _mmdet_class('swin', 'ShiftWindowMSA')(dim, num_heads, window_size, shift_size=shift_size)
        # The table of position biases is the one parameter that only mmdet knows how to initialise.
        self.attention.w_msa.init_weights()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        size = x.shape[2:]
        return _to_map(self.attention(_to_tokens(x), size), *size)
