"""The road map from a static depthwise convolution to ATConv, table IX(c) of the paper."""

from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.atconv import ATConv

STEPS = (
    'kernel_generator',
    'output_projection',
    'value_projection',
    'softmax',
    'kernel_difference',
    'differential_modulation',
)


class ATConvStep(ATConv):
    """ATConv as far as a step of the road map has built it.

    The first row of the table is :class:`~mmatconv.layers.token_mixers.static_convs.DepthwiseConv`. Parameter names are
    those of ATConv; what a step does not have yet is missing. Parameter counts of all steps are table IX(c)'s:

    - 'kernel_generator': kernels from context-to-kernel convolve the map itself;
    - 'output_projection': adds ``proj`` behind the convolution;
    - 'value_projection': adds ``x_proj`` before it;
    - 'softmax': as the one before, with a softmax over the positions of each kernel;
    - 'kernel_difference': as 'value_projection', with the mean subtracted from each kernel, equation 8 with lambda
      fixed to 1. Undetermined: the paper only cites the central difference of pixel difference networks, which would
      subtract the sum of the kernel from its centre. Both have no parameter and answer a constant map with zero;
    - 'differential_modulation': ATConv itself.

    Args:
        dim: Channels C.
        step: One of the above. Default: 'differential_modulation'.
        kernel_size: K, odd. Default: 3.
        context_pool: 'flat' or 'grid', see ATConv. Default: 'flat'.

    Raises:
        UserError: An unknown ``step`` or ``context_pool``, or an even ``kernel_size``.
    """

    def __init__(self, dim: int, step: str = STEPS[-1], kernel_size: int = 3, context_pool: str = 'flat') -> None:
        if step not in STEPS:
            raise UserError(f'ATConvStep has no step {step!r}; choose from {", ".join(STEPS)}.')
        super().__init__(dim, kernel_size, context_pool=context_pool)
        self.step = step
        if step == 'kernel_generator':
            self.proj = nn.Identity()
        if step in ('kernel_generator', 'output_projection'):
            self.x_proj = nn.Identity()
        if step != 'differential_modulation':
            self.register_parameter('difference_control', None)

    def modulate(self, kernels: Tensor) -> Tensor:
        """(B, C, K * K) -> (B, C, K * K), what the step does to the generated kernels."""
        if self.step == 'softmax':
            return kernels.softmax(dim=2)
        if self.step == 'kernel_difference':
            return kernels - kernels.mean(dim=2, keepdim=True)
        if self.step == 'differential_modulation':
            return super().modulate(kernels)
        return kernels

    def extra_repr(self) -> str:
        return f'step={self.step!r}, {super().extra_repr()}'
