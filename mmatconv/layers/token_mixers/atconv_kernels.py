"""ATConv with less or more than the kernels it generates, to ask what they contribute: docs/study.md."""

import torch
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.atconv import ATConv
from mmatconv.layers.padding_mask import PaddingMask

KERNELS = ('biases', 'static_and_generated')


class ATConvKernels(ATConv):
    """ATConv whose kernels lack the context, or have a static part beside the generated one.

    (B, C, H, W) -> (B, C, H, W), as ATConv.

    The bias of ``kernel_proj`` is one number a channel, added at all K * K positions of the context. Alone it gives
    every channel a mixture of three shapes that the channels of a layer share: the row sums of ``kernel_gen``, its
    bias, and the constant that differential kernel modulation subtracts. A depthwise convolution has K * K free numbers
    a channel.

    - 'biases': the context is zero, so the kernels are those mixtures and no part of the map changes them;
    - 'static_and_generated': ATConv's kernels plus learned ones, ``static_kernel`` (C, K, K), which start like those of
      a depthwise convolution and are added after differential kernel modulation.

    A depthwise convolution between ATConv's projections is
    :class:`~mmatconv.layers.token_mixers.static_convs.ProjectedDepthwiseConv`. All three are this project's, not the
    paper's.

    Args:
        dim: Channels C.
        kernels: One of the above. Default: 'static_and_generated'.
        kernel_size: K, odd. Default: 3.
        context_pool: 'flat' or 'grid', see ATConv. Default: 'flat'.

    Raises:
        UserError: An unknown ``kernels`` or ``context_pool``, or an even ``kernel_size``.
    """

    def __init__(self, dim: int, kernels: str = KERNELS[-1], kernel_size: int = 3, context_pool: str = 'flat') -> None:
        if kernels not in KERNELS:
            raise UserError(f'kernels must be one of {", ".join(KERNELS)}, but is {kernels!r}.')
        super().__init__(dim, kernel_size, context_pool=context_pool)
        self.kernels = kernels
        if kernels == 'biases':
            # Of a zero context the projection leaves its bias.
            self.kernel_proj.weight.requires_grad_(False)
            self.register_parameter('static_kernel', None)
        else:
            self.static_kernel = nn.Parameter(torch.empty(dim, kernel_size, kernel_size))
            nn.init.trunc_normal_(self.static_kernel, std=1 / kernel_size)

    def pool_context(self, x: Tensor, padding_mask: PaddingMask | None, path: str) -> tuple[Tensor, Tensor]:
        """As ATConv's; zero with 'biases'."""
        if self.static_kernel is not None:
            return super().pool_context(x, padding_mask, path)
        bias = self.kernel_proj.bias
        return bias.new_zeros(len(x), self.dim, self.kernel_size**2), x

    def modulate(self, kernels: Tensor) -> Tensor:
        """(B, C, K * K) -> (B, C, K * K), DKM, then the static kernels where there are any."""
        kernels = super().modulate(kernels)
        return kernels if self.static_kernel is None else kernels + self.static_kernel.flatten(1)

    def extra_repr(self) -> str:
        return f'kernels={self.kernels!r}, {super().extra_repr()}'
