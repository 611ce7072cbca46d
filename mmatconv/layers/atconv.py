"""Attentive Convolution (arXiv 2510.20092), the token mixer.

The parameter names are those of the released code (github.com/price112/Attentive-Convolution, MIT licence,
Copyright (c) 2025 price112), so that its weights load unchanged.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.checks import check_kernel_size
from mmatconv.layers.context_pool import CONTEXT_POOLS
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.plain import is_plain
from mmatconv.layers.pointwise import PointwiseConv, cast_for, pointwise
from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.ops.autocast import outside_autocast
from mmatconv.ops.cast_weights import Weight
from mmatconv.ops.context_to_kernel.function import context_pool, generate_kernels
from mmatconv.ops.memory_format import nearest_format
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.residual_norm.branch import Branch


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

    def generate_kernels(self, x: Tensor, padding_mask: PaddingMask | None = None, path: str | None = None) -> Tensor:
        """The kernels that a map generates: C2K and DKM.

        Args:
            x: (B, C, H, W).
            padding_mask: What of the map is padding. Default: None, nothing.
            path: As for ``dynamic_depthwise_conv2d``. Default: None.

        Returns:
            (B, C, K, K), in the dtype of the parameters.
        """
        path = choose(x, path)
        context, _ = self.pool_context(x, padding_mask, path)
        return self.kernels_from(context, context.dtype, nearest_format(x), path)

    def pool_context(self, x: Tensor, padding_mask: PaddingMask | None, path: str) -> tuple[Tensor, Tensor]:
        """The context (B, C, K * K) of a map, and the map for what else reads it: see ``context_pool``."""
        # In the parameters' dtype under autocast too: statistics of a map, and sums of its pixels' gradients.
        dtype = _dtype_of(self.kernel_proj)
        with outside_autocast(x):
            if not takes_triton(path):
                return CONTEXT_POOLS[self.context_pool](x.to(dtype), self.kernel_size, padding_mask), x
            sizes = None if padding_mask is None else padding_mask.sizes
            context, x = context_pool(x, self.kernel_size, self.context_pool == 'grid', path, sizes)
            return context.to(dtype), x

    def kernels_from(
        self, context: Tensor, dtype: torch.dtype, memory_format: torch.memory_format, path: str
    ) -> Tensor:
        """(B, C, K * K) -> (B, C, K, K) in the dtype and the format of the map that they are to convolve."""
        size = self.kernel_size
        with outside_autocast(context):
            context = self.kernel_proj(context.unsqueeze(-1)).squeeze(-1)
            generator = self.generator_arguments() if takes_triton(path) else None
            if generator is not None:
                channels_last = memory_format == torch.channels_last
                return generate_kernels(context, *generator, size, channels_last, dtype, path)
            kernels = self.modulate(self.kernel_gen(self.kernel_act(context)))
        return kernels.unflatten(2, (size, size)).to(dtype)

    def modulate(self, kernels: Tensor) -> Tensor:
        """(B, C, K * K) -> (B, C, K * K), differential kernel modulation (DKM)."""
        difference = torch.sigmoid(self.difference_control)[:, None]
        return kernels - difference * kernels.mean(dim=2, keepdim=True)

    def generator_arguments(self) -> tuple[Tensor, Tensor | None, Tensor, bool] | None:
        """What ``ops.context_to_kernel.generate_kernels`` needs to stand for ``kernel_act``, ``kernel_gen`` and
        :meth:`modulate`; None where it cannot, because one of them is not plain.
        """
        if type(self).modulate is not ATConv.modulate or not self._generator_is_plain():
            return None
        return self.kernel_gen.weight, self.kernel_gen.bias, self.difference_control, True

    def _generator_is_plain(self) -> bool:
        exact = is_plain(self.kernel_act, nn.GELU) and self.kernel_act.approximate == 'none'
        return exact and is_plain(self.kernel_gen, nn.Linear)

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), computed as if each image had no padding around it."""
        path = choose(x)
        if takes_triton(path):
            return self.branch(x, padding_mask, complete=True).product
        context, x = self.pool_context(x, padding_mask, path)
        value = self.x_proj(x)
        if padding_mask is not None:
            value = padding_mask.zero_padding(value, inplace=is_plain(self.x_proj, PointwiseConv))
        kernels = self.kernels_from(context, value.dtype, nearest_format(x), path)
        return self.proj(dynamic_depthwise_conv2d(value, kernels, path))

    def branch(
        self,
        x: Tensor,
        padding_mask: PaddingMask | None = None,
        cast: Sequence[Tensor] | None = None,
        complete: bool = False,
    ) -> Branch:
        """As :meth:`forward` on a GPU; the bias of ``proj`` is left to the residual sum where that can add it.

        Args:
            x: (B, C, H, W).
            padding_mask: What of the map is padding. Default: None, nothing.
            cast: Of ``x`` in channels_last what ``cast_for`` returns, if that is known. Default: None.
            complete: Leave nothing to the sum. Default: False.
        """
        path, sizes = choose(x), None if padding_mask is None else padding_mask.sizes
        dense = x.is_contiguous(memory_format=torch.channels_last)
        if cast is None and dense:
            (cast,) = cast_for(x, [self])
        x_proj, proj = self.x_proj, self.proj
        apart = not complete and dense and is_plain(proj, PointwiseConv)
        if cast is not None:
            expand, *bias, project = cast
            x_proj = partial(pointwise, weight=expand, bias=bias[0] if bias else None)
            proj = partial(pointwise, weight=project, bias=None if apart else proj.bias)
        elif apart:
            proj = partial(pointwise, weight=proj.matrix, bias=None)
        context, x = self.pool_context(x, padding_mask, path)
        value = x_proj(x)
        kernels = self.kernels_from(context, value.dtype, nearest_format(x), path)
        mixed = dynamic_depthwise_conv2d(value, kernels, path, sizes)
        return Branch(proj(mixed), bias=self.proj.bias if apart else None)

    def weights(self) -> list[Weight]:
        """What :meth:`branch` takes ``cast``: weight and bias of ``x_proj``, weight of ``proj``."""
        if not (is_plain(self.x_proj, PointwiseConv) and is_plain(self.proj, PointwiseConv)):
            return []
        own = self.x_proj.weight, self.x_proj.bias, self.proj.weight
        return [Weight(values) for values in own if values is not None]

    def extra_repr(self) -> str:
        return f'dim={self.dim}, kernel_size={self.kernel_size}, context_pool={self.context_pool!r}'


def _dtype_of(layer: nn.Module) -> torch.dtype:
    """The dtype of a layer's parameters, which a wrapper may hold deeper inside."""
    weight = getattr(layer, 'weight', None)
    if not isinstance(weight, Tensor):
        weight = next(layer.parameters(), None)
    return torch.float32 if weight is None else weight.dtype
