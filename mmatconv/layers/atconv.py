"""Attentive Convolution (arXiv 2510.20092), the token mixer.

The parameter names are those of the released code (github.com/price112/Attentive-Convolution, MIT licence,
Copyright (c) 2025 price112), so that its weights load unchanged.
"""

import torch
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.checks import check_kernel_size
from mmatconv.layers.context_pool import CONTEXT_POOLS
from mmatconv.layers.padding_mask import ValidArea
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.ops.autocast import outside_autocast
from mmatconv.ops.context_to_kernel.custom_operator import generate_kernels
from mmatconv.ops.memory_format import nearest_format
from mmatconv.ops.paths import takes_triton


class ATConv(nn.Module):
    """A depthwise convolution whose kernel each sample and channel generates from its own map.

    - context-to-kernel (C2K), equation 7: pool to K * K positions, project the channels (``kernel_proj``), GELU, mix
      the positions (``kernel_gen``);
    - differential kernel modulation (DKM), equation 8: subtract ``sigmoid(difference_control)`` times the kernel mean;
    - the kernel convolves the value projection (``x_proj``); ``proj`` follows.

    The projection of C2K comes after the pooling, where paper and released code have it before. Both are averages
    with weights that sum to one and a 1x1 convolution, so they commute exactly, gradients included, and the cost
    falls from ``H * W * C**2`` to ``K**2 * C**2``.

    Args:
        dim: Channels C.
        kernel_size: K, odd. Default: 3.
        bias: Biases in the three projections and ``kernel_gen``. The paper's equations show none, the released
            code has them. Default: True.
        context_pool: 'flat' pools strips as the released code and all its weights do, 'grid' a K x K grid as
            equation 7 does. Default: 'flat'.

    Raises:
        UserError: An even ``kernel_size`` or an unknown ``context_pool``.
    """

    def __init__(self, dim: int, kernel_size: int = 3, bias: bool = True, context_pool: str = 'flat') -> None:
        super().__init__()
        check_kernel_size(kernel_size)
        if context_pool not in CONTEXT_POOLS:
            raise UserError(f'context_pool must be one of {", ".join(CONTEXT_POOLS)}, but is {context_pool!r}.')
        self.dim = dim
        self.kernel_size = kernel_size
        self.context_pool = context_pool
        positions = kernel_size * kernel_size
        self.kernel_proj = PointwiseConv(dim, dim, bias=bias)
        self.kernel_act = nn.GELU()
        self.kernel_gen = nn.Linear(positions, positions, bias=bias)
        self.x_proj = PointwiseConv(dim, dim, bias=bias)
        self.proj = PointwiseConv(dim, dim, bias=bias)
        self.difference_control = nn.Parameter(torch.zeros(dim))

    def generate_kernels(self, x: Tensor, area: ValidArea | None = None) -> Tensor:
        """The kernels a map asks for: C2K and DKM.

        Args:
            x: (B, C, H, W).
            area: Where the map is valid, if not everywhere. Default: None.

        Returns:
            (B, C, K, K).
        """
        pool = CONTEXT_POOLS[self.context_pool]
        if takes_triton(x) and (modulation := self.modulation()) is not None:
            context = self.kernel_proj(pool(x, self.kernel_size, area).unsqueeze(-1)).squeeze(-1)
            channels_last = nearest_format(x) == torch.channels_last
            return generate_kernels(context, *modulation, self.kernel_size, channels_last)
        # In the parameters' dtype under autocast too: statistics of a map, and the sum of its pixels' gradients.
        with outside_autocast(x):
            context = pool(x.to(self.kernel_proj.weight.dtype), self.kernel_size, area)
            context = self.kernel_proj(context.unsqueeze(-1)).squeeze(-1)
            kernels = self.modulate(self.kernel_gen(self.kernel_act(context)))
        return kernels.unflatten(2, (self.kernel_size, self.kernel_size))

    def modulate(self, kernels: Tensor) -> Tensor:
        """(B, C, K * K) -> (B, C, K * K), differential kernel modulation (DKM)."""
        difference = torch.sigmoid(self.difference_control)[:, None]
        return kernels - difference * kernels.mean(dim=2, keepdim=True)

    def modulation(self) -> tuple[Tensor, Tensor | None, Tensor, bool] | None:
        """``kernel_gen`` and :meth:`modulate` as arguments of ``generate_kernels``; None for other modulations."""
        return self.kernel_gen.weight, self.kernel_gen.bias, self.difference_control, True

    def forward(self, x: Tensor, area: ValidArea | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in ``area`` as for a map without the padding around it."""
        kernels = self.generate_kernels(x, area)
        value = self.x_proj(x)
        if area is not None:
            value = area.zero(value, inplace=value is not x)
        if kernels.dtype != value.dtype:
            kernels = kernels.to(value.dtype)
        return self.proj(dynamic_depthwise_conv2d(value, kernels))

    def extra_repr(self) -> str:
        return f'dim={self.dim}, kernel_size={self.kernel_size}, context_pool={self.context_pool!r}'
