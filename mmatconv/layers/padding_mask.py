"""Padding masks: which part of each map of a padded batch belongs to the image.

Detectors and segmentors batch images of different sizes by zeros at the right and at the bottom. Convolutions that see
zeros there as well compute for each image what they compute for it alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmatconv.ops.tracing import is_traced


class PaddingMask:
    """The valid height and width of each map of a batch; the rest is padding.

    Args:
        sizes: (B, 2), heights and widths.
        shape: H and W of the maps.
        side_lengths: ``sizes`` as Python integers, where they are known. Without them everything is computed with
            boolean masks, which torch.compile traces as one graph for all sizes. Default: None.
    """

    def __init__(self, sizes: Tensor, shape: Sequence[int], side_lengths: list[list[int]] | None = None) -> None:
        self.sizes = sizes
        self.shape = shape
        self.side_lengths = side_lengths
        self.cache: dict = {}

    def downsample(self, factor: int) -> 'PaddingMask':
        """The mask after a layer of stride ``factor`` that rounds the size of its output up."""
        side_lengths = None if self.side_lengths is None else [_ceil(size, factor) for size in self.side_lengths]
        return PaddingMask((self.sizes + factor - 1) // factor, tuple(_ceil(self.shape, factor)), side_lengths)

    def at(self, shape: Sequence[int]) -> 'PaddingMask | None':
        """The mask of maps smaller by a power of two; None for any other shape."""
        if tuple(shape) == tuple(self.shape):
            return self
        for exponent in range(1, 8):
            if tuple(_ceil(self.shape, 2**exponent)) == tuple(shape):
                return self.downsample(2**exponent)
        return None

    def valid(self) -> Tensor:
        """(B, 1, H, W), boolean, False in the padding."""
        if 'mask' not in self.cache:
            rows, columns = (torch.arange(side, device=self.sizes.device) for side in self.shape)
            inside_rows, inside_columns = rows < self.sizes[:, :1], columns < self.sizes[:, 1:]
            self.cache['mask'] = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        return self.cache['mask']

    def zero_padding(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Set the padding to zero, in the gradient too.

        Args:
            x: (B, C, H, W).
            inplace: Whether ``x`` may be overwritten, because nobody else uses it and no gradient needs its values.
                Default: False.

        Returns:
            (B, C, H, W).
        """
        if self.side_lengths is None or is_traced():
            return torch.where(self.valid(), x, 0)
        if torch.is_grad_enabled() and x.requires_grad:
            return _Zero.apply(x, self.side_lengths, inplace)
        return zero_outside_(x if inplace else x.clone(), self.side_lengths)

    def replicate_edge(self, x: Tensor) -> Tensor:
        """Repeat the last valid row and column into the padding, as interpolation does at the border of a map.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        if self.side_lengths is not None and not is_traced():
            return _ReplicateEdge.apply(x, self.side_lengths)
        batch, _, height, width = x.shape
        rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
        rows = torch.minimum(rows, self.sizes[:, :1].to(x.device) - 1)[:, :, None]
        columns = torch.minimum(columns, self.sizes[:, 1:].to(x.device) - 1)[:, None, :]
        samples = torch.arange(batch, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[samples, rows, columns].permute(0, 3, 1, 2)


def _ceil(sides: Sequence[int], factor: int) -> list[int]:
    # Not -(-side // factor): torch's TorchScript exporter to ONNX rounds // of negative numbers toward zero.
    return [(side + factor - 1) // factor for side in sides]


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


class _ReplicateEdge(torch.autograd.Function):
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


def find_padding(images: Tensor) -> PaddingMask | None:
    """Find the padding of normalised images, which is zero.

    A row or column counts as padding if it and all after it are zero in every channel. The pixels of a photograph are
    hardly ever exactly zero once the mean has been subtracted. An image that is zero everywhere counts as not padded.

    Args:
        images: (B, C, H, W).

    Returns:
        The mask, or None if no image is padded.
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
        return PaddingMask(sizes, shape)
    side_lengths = sizes.tolist()
    return None if all(tuple(size) == shape for size in side_lengths) else PaddingMask(sizes, shape, side_lengths)


def _last(flags: Tensor) -> Tensor:
    """(B, N) -> (B,), the number of entries up to the last True; N if there is none."""
    count = flags.shape[1]
    ends = (torch.arange(1, count + 1, device=flags.device) * flags).amax(1)
    return torch.where(ends == 0, count, ends)
