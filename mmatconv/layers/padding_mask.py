"""Padding masks: which part of each map of a padded batch belongs to the image.

Detectors and segmentors batch images of different sizes by zeros at the right and at the bottom. Convolutions that see
zeros there as well compute for each image what they compute for it alone.

Nothing here asks a GPU for a number: sizes stay on the device of the maps, so that no step waits for the one before
and a CUDA graph can be captured. On a CPU, where looking is free, whole images have no mask and only padding is
written.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmatconv.ops.padding import valid_pixels
from mmatconv.ops.tracing import is_traced


class PaddingMask:
    """The valid height and width of each map of a batch; the rest is padding.

    Args:
        sizes: (B, 2), int32, heights and widths, on the device of the maps. Operators that take ``sizes`` mean this.
        shape: H and W of the maps.
    """

    def __init__(self, sizes: Tensor, shape: Sequence[int]) -> None:
        self.sizes = sizes
        self.shape = tuple(shape)
        # What is derived from the sizes: layers of one resolution share it.
        self.cache: dict = {}

    @property
    def side_lengths(self) -> list[list[int]]:
        """``sizes`` as Python integers, for code that goes from image to image. A GPU has to be waited for."""
        return self.sizes.tolist()

    def downsample(self, factor: int) -> 'PaddingMask':
        """The mask after layers that divide the size by ``factor``, a power of two, and round up."""
        padding_mask = self
        while factor > 1:
            padding_mask, factor = padding_mask._halve(), factor // 2
        return padding_mask

    def _halve(self) -> 'PaddingMask':
        if 'half' not in self.cache:
            self.cache['half'] = PaddingMask((self.sizes + 1) // 2, [(side + 1) // 2 for side in self.shape])
        return self.cache['half']

    def at(self, shape: Sequence[int]) -> 'PaddingMask | None':
        """The mask of maps smaller by a power of two; None for any other shape."""
        for exponent in range(8):
            factor = 2**exponent
            # Not -(-side // factor): torch's TorchScript exporter to ONNX rounds // of negative numbers toward zero.
            if tuple((side + factor - 1) // factor for side in self.shape) == tuple(shape):
                return self.downsample(factor)
        return None

    def valid(self) -> Tensor:
        """(B, 1, H, W), boolean, False in the padding."""
        if 'valid' not in self.cache:
            self.cache['valid'] = valid_pixels(self.sizes, self.shape)
        return self.cache['valid']

    def pixels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, row and column of each pixel of padding. A GPU has to be waited for."""
        if 'pixels' not in self.cache:
            self.cache['pixels'] = self.valid()[:, 0].logical_not().nonzero(as_tuple=True)
        return self.cache['pixels']

    def nearest(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sample, row and column of the valid pixel that is nearest to each of :meth:`pixels`."""
        samples, rows, columns = self.pixels()
        last_rows, last_columns = (self.sizes[samples] - 1).unbind(1)
        return samples, torch.minimum(rows, last_rows), torch.minimum(columns, last_columns)

    def zero_padding(self, x: Tensor, inplace: bool = False) -> Tensor:
        """Set the padding to zero, in the gradient too.

        Args:
            x: (B, C, H, W).
            inplace: Whether ``x`` may be overwritten, because nobody else uses it and no gradient needs its values.
                Default: False.

        Returns:
            (B, C, H, W).
        """
        return torch.where(self.valid(), x, 0) if is_traced() else _Zero.apply(x, self, inplace)

    def replicate_edge(self, x: Tensor) -> Tensor:
        """Repeat the last valid row and column into the padding, as interpolation does at the border of a map.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, C, H, W).
        """
        if _is_on_host(x):
            return _ReplicateEdge.apply(x, self)
        for dim, side in ((2, self.sizes[:, 0]), (3, self.sizes[:, 1])):
            last = side.view(-1, 1, 1, 1) - 1
            place = torch.arange(x.shape[dim], device=x.device).view((-1, 1) if dim == 2 else (1, -1))
            index = last.long().expand([1 if i == dim else x.shape[i] for i in range(4)])
            x = torch.where(place <= last, x, x.gather(dim, index))
        return x


def _is_on_host(x: Tensor) -> bool:
    """Whether values may decide what is computed, which no tracer follows and which costs a GPU a wait."""
    return x.device.type == 'cpu' and not is_traced()


def _pixels_of(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, padding_mask: PaddingMask, inplace: bool) -> Tensor:
        ctx.padding_mask = padding_mask
        # Not marked as changed: autograd forbids that for views of what other functions returned, as layers do.
        if _is_on_host(x):
            x = x.view_as(x) if inplace else x.clone()
            _pixels_of(x)[padding_mask.pixels()] = 0
            return x
        if inplace:
            return x.view_as(x).masked_fill_(~padding_mask.valid(), 0)
        return torch.where(padding_mask.valid(), x, 0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        # Differentiable as well: the second derivative takes the same way.
        return _Zero.apply(grad, ctx.padding_mask, False), None, None


class _ReplicateEdge(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, padding_mask: PaddingMask) -> Tensor:
        ctx.padding_mask = padding_mask
        output = x.clone()
        _pixels_of(output)[padding_mask.pixels()] = _pixels_of(x)[padding_mask.nearest()]
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        padding, grad = ctx.padding_mask.pixels(), grad.clone()
        pixels = _pixels_of(grad)
        pixels.index_put_(ctx.padding_mask.nearest(), pixels[padding], accumulate=True)
        pixels[padding] = 0
        return grad, None


def find_padding(images: Tensor) -> PaddingMask | None:
    """Find the padding of normalised images, which is zero.

    A row or column counts as padding if it and all after it are zero in every channel. The pixels of a photograph are
    hardly ever exactly zero once the mean has been subtracted. An image that is zero everywhere counts as not padded.

    Args:
        images: (B, C, H, W).

    Returns:
        The mask; on a CPU, unless traced, None if no image is padded.
    """
    shape = tuple(images.shape[2:])
    on_host = _is_on_host(images)
    if on_host:
        edges = (images[:, :, -1:, :], images[:, :, :, -1:])
        if all(bool((edge != 0).flatten(1).any(1).all()) for edge in edges):
            return None
    shown = (images != 0).any(1)
    sizes = torch.stack([_last(shown.any(2)), _last(shown.any(1))], dim=1).int()
    return None if on_host and bool((sizes == sizes.new_tensor(shape)).all()) else PaddingMask(sizes, shape)


def _last(flags: Tensor) -> Tensor:
    """(B, N) -> (B,), the number of entries up to the last True; N if there is none."""
    count = flags.shape[1]
    ends = (torch.arange(1, count + 1, device=flags.device) * flags).amax(1)
    return torch.where(ends == 0, count, ends)
