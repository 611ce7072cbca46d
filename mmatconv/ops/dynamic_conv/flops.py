"""What torch's FLOP counter counts for the operator: two for each multiply-add, as for its own convolutions."""

from math import prod

import torch


def register_flops() -> None:
    """Give both operators their rule in ``torch.utils.flop_counter``."""
    from torch.utils.flop_counter import register_flop_formula

    @register_flop_formula(torch.ops.mmatconv.dynamic_depthwise_conv2d)
    def convolve(input_shape, kernel_shape, *args, **kwargs) -> int:
        return 2 * prod(input_shape) * prod(kernel_shape[2:])

    @register_flop_formula(torch.ops.mmatconv.dynamic_depthwise_conv2d_backward)
    def gradients(grad_shape, input_shape, kernel_shape, with_input, with_kernel, *args, **kwargs) -> int:
        return 2 * prod(input_shape) * prod(kernel_shape[2:]) * (with_input + with_kernel)
