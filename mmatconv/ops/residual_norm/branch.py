"""A residual branch whose last elementwise operations are left to the sum that it enters."""

from typing import NamedTuple

from torch import Tensor


class Branch(NamedTuple):
    """``product * scale + bias``, not computed yet.

    Attributes:
        product: (B, C, H, W), what a mixer's last matrix product returns.
        scale: (B, 1, H, W), that of an RMSNorm before the product. Default: None, ones.
        bias: (C,). Default: None, zeros.
    """

    product: Tensor
    scale: Tensor | None = None
    bias: Tensor | None = None

    def total(self) -> Tensor:
        """(B, C, H, W), dtype of the product."""
        product, dtype = self.product, self.product.dtype
        if self.scale is not None:
            product = product * self.scale.to(dtype)
        return product if self.bias is None else product + self.bias.to(dtype)[:, None, None]
