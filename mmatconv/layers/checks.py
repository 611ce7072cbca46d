"""Checks of options that several token mixers share."""

from mmatconv.errors import UserError


def check_kernel_size(kernel_size: int) -> None:
    """Raise a UserError unless ``kernel_size`` is an odd positive integer."""
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f'kernel_size must be odd and positive, but is {kernel_size}.')


def check_num_heads(dim: int, num_heads: int) -> None:
    """Raise a UserError unless ``num_heads`` divides the ``dim`` channels."""
    if not isinstance(num_heads, int) or num_heads < 1 or dim % num_heads:
        raise UserError(f'num_heads must divide the {dim} channels of the token mixer, but is {num_heads}.')
