"""Which part of every map of a padded batch shows the image.

Detectors and segmentors batch images of different sizes by zeros at the right and at the bottom. Convolutions that see
zeros there as well compute for each image what they compute for it alone.
"""

import torch
from torch import Tensor

from mmatconv.ops.tracing import is_traced


class ValidArea:
    """The valid height and width of each map of a batch; the rest is padding.

    Args:
        sizes: (B, 2), heights and widths.
        shape: H and W of the maps.
        listed: ``sizes`` as numbers, where they are known; without, everything is computed with masks, which
            torch.compile sees as one graph for all sizes. Default: None.
    """

    def __init__(self, sizes: Tensor, shape: tuple[int, int], listed: list[list[int]] | None = None) -> None:
        self.sizes = sizes
        self.shape = shape
        self.listed = listed
        self.cache: dict = {}

    def shrink(self, factor: int) -> 'ValidArea':
        """The area after a layer of stride ``factor`` whose last outputs may begin in the last pixel."""
        shape = tuple(-(-side // factor) for side in self.shape)
        listed = None if self.listed is None else [[-(-side // factor) for side in size] for size in self.listed]
        return ValidArea((self.sizes + factor - 1) // factor, shape, listed)

    def at(self, shape: tuple[int, int]) -> 'ValidArea | None':
        """The area in maps of another resolution, a power of two smaller or larger; None where there is none."""
        if tuple(shape) == tuple(self.shape):
            return self
        for exponent in range(1, 8):
            if tuple(-(-side // 2**exponent) for side in self.shape) == tuple(shape):
                return self.shrink(2**exponent)
        return None

    def mask(self) -> Tensor:
        """(B, 1, H, W), true in the valid area."""
        if 'mask' not in self.cache:
            rows, columns = (torch.arange(side, device=self.sizes.device) for side in self.shape)
            inside_rows, inside_columns = rows < self.sizes[:, :1], columns < self.sizes[:, 1:]
            self.cache['mask'] = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        return self.cache['mask']

    def zero(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Zeros in the padding, and no gradient from there.

        Args:
            x: (B, C, H, W).
            inplace: Whether ``x`` may be overwritten: it belongs to the caller, and no gradient needs its values.
                Default: False.

        Returns:
            (B, C, H, W).
        """
        if self.listed is None or is_traced():
            return torch.where(self.mask(), x, 0)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Zero.apply(x, self.listed, inplace)
        return zero_outside_(x if inplace else x.clone(), self.listed)

    def extend(self, x: Tensor) -> Tensor:
        """The last valid row and column repeated into the padding, which is what interpolation clamps to.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        if self.listed is not None and not is_traced():
            return _Extend.apply(x, self.listed)
        batch, _, height, width = x.shape
        rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
        rows = torch.minimum(rows, self.sizes[:, :1].to(x.device) - 1)[:, :, None]
        columns = torch.minimum(columns, self.sizes[:, 1:].to(x.device) - 1)[:, None, :]
        samples = torch.arange(batch, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[samples, rows, columns].permute(0, 3, 1, 2)


def zero_outside_(x: Tensor, sizes: list[list[int]]) -> Tensor:
    """Overwrite the padding of (B, C, H, W) with zeros."""
    for sample, (height, width) in zip(x, sizes):
        if height < x.shape[2]:
            sample[:, height:].zero_()
        if width < x.shape[3]:
            sample[:, :height, width:].zero_()
    return x


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[list[int]], inplace: bool) -> Tensor:
        ctx.sizes = sizes
        # Not marked as changed: autograd forbids that for views of what other functions returned, as layers do.
        return zero_outside_(x.view_as(x) if inplace else x.clone(), sizes)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        # Differentiable as well: the second derivative takes the same way.
        return _Zero.apply(grad, ctx.sizes, False), None, None


class _Extend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, sizes: list[list[int]]) -> Tensor:
        ctx.sizes = sizes
        output = x.clone()
        for sample, (height, width) in zip(output, sizes):
            sample[:, height:] = sample[:, height - 1 : height]
            sample[:, :, width:] = sample[:, :, width - 1 : width]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.clone()
        for sample, (height, width) in zip(grad, ctx.sizes):
            sample[:, :, width - 1] += sample[:, :, width:].sum(2)
            sample[:, height - 1] += sample[:, height:].sum(1)
        return zero_outside_(grad, ctx.sizes), None


def find_valid_area(images: Tensor) -> ValidArea | None:
    """The valid area of normalised images whose padding is zero.

    A row or column counts as padding if it and all behind it are zero in every channel. A picture's own pixels are
    hardly ever exactly zero after the mean was subtracted. An image of zeros only counts as valid as a whole.

    Args:
        images: (B, C, H, W).

    Returns:
        The area, or None where nothing is padded.
    """
    shape = tuple(images.shape[2:])
    traced = is_traced()
    if not traced:
        edges = (images[:, :, -1:, :], images[:, :, :, -1:])
        if all(bool((edge != 0).flatten(1).any(1).all()) for edge in edges):
            return None
    shown = (images != 0).any(1)
    sizes = torch.stack([_last(shown.any(2)), _last(shown.any(1))], dim=1)
    if traced:
        return ValidArea(sizes, shape)
    listed = sizes.tolist()
    return None if all(tuple(size) == shape for size in listed) else ValidArea(sizes, shape, listed)


def _last(flags: Tensor) -> Tensor:
    """(B, N) -> (B,), the number of entries up to the last true one; N if there is none."""
    count = flags.shape[1]
    ends = (torch.arange(1, count + 1, device=flags.device) * flags).amax(1)
    return torch.where(ends == 0, count, ends)
