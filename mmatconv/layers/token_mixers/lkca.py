"""Large Kernel Convolutional Attention, LKCA (arXiv 2401.05738), reconstructed: no code of it is public."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.per_image import PerImageMixer
from mmatconv.layers.token_mixers.windows import relative_position_index

KERNELS = ('channel', 'head', 'single')
OTHER_SIZES = ('crop', 'interpolate')
# Measured forward and backward on one CPU thread. Weights that several channels share are fastest as a matrix on small
# maps: 14 x 14, 320 channels, 5 heads 2.5 ms, 14 ms by FFT, 72 ms as a direct convolution.
MATRIX_TO = 14 * 14
# Kernel elements from which on the FFT is faster than a direct convolution: at 13 x 13 it takes 1 to 1.4 times as long,
# at 27 x 27 a fifth to a half.
FFT_FROM = 19 * 19


class LKCA(PerImageMixer):
    """Learned attention weights that depend on the relative position alone: one large convolution.

    Reconstructed. Fixed by the paper and its summaries: the weights of all pairs of s x s positions are a learned
    (2 s - 1) x (2 s - 1) matrix, shared by relative position, and there are two equal views. As attention
    (:meth:`attention_view`) position i gives position j the weight ``kernel[j - i]``, without a softmax; as a
    convolution (:meth:`convolution_view`) the kernel is slid over the map, of which every position sees all. What the
    sources leave open is an option, with the choice nearest to the multi-head attention it replaces as the default.

    Kernels start with deviation 1 / s, so that a sum over s x s positions keeps the size of the values.

    Args:
        dim: Channels C.
        size: s, the side of the maps it is trained for. Default: 14.
        kernels: 'head' (a matrix for each head, as attention has), 'channel' (a depthwise convolution) or 'single'
            (one for all channels). Default: 'head'.
        num_heads: With 'head'; must divide ``dim``. Default: 8.
        value_proj: A linear layer before, attention's value projection. Default: True.
        output_proj: A linear layer after, attention's output projection. Default: True.
        bias: Biases in both. Default: True.
        other_sizes: What becomes of the kernel on maps that are not s x s. 'crop' leaves it as it is: on smaller
            maps only its centre takes part, as in the paper's figure 2, and on larger ones a position sees what is at
            most s - 1 pixels away. 'interpolate' resizes it (bilinear, sum kept) so that a position sees all of any
            map. Default: 'crop'.

    Raises:
        UserError: An option that does not exist, or a ``num_heads`` that does not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        size: int = 14,
        kernels: str = 'head',
        num_heads: int = 8,
        value_proj: bool = True,
        output_proj: bool = True,
        bias: bool = True,
        other_sizes: str = 'crop',
    ) -> None:
        super().__init__()
        for name, value, known in (('kernels', kernels, KERNELS), ('other_sizes', other_sizes, OTHER_SIZES)):
            if value not in known:
                raise UserError(f'{name} must be one of {", ".join(known)}, but is {value!r}.')
        if not isinstance(size, int) or size < 1:
            raise UserError(f'size must be a positive integer, but is {size}.')
        if kernels == 'head':
            check_num_heads(dim, num_heads)
        self.size = size
        self.other_sizes = other_sizes
        count = dict(channel=dim, head=num_heads, single=1)[kernels]
        self.kernel = nn.Parameter(torch.empty(count, 2 * size - 1, 2 * size - 1))
        nn.init.trunc_normal_(self.kernel, std=1 / size)
        self.value_proj = PointwiseConv(dim, dim, bias) if value_proj else nn.Identity()
        self.output_proj = PointwiseConv(dim, dim, bias) if output_proj else nn.Identity()

    def mix(self, x: Tensor) -> Tensor:
        value = self.value_proj(x)
        height, width = x.shape[2:]
        by_matrix = height * width <= MATRIX_TO and len(self.kernel) < x.shape[1]
        return self.output_proj(self.attention_view(value) if by_matrix else self.convolution_view(value))

    def kernel_for(self, height: int, width: int) -> Tensor:
        """(kernels, h, w) for a map: at most (2 * height - 1) x (2 * width - 1), sides odd, centred."""
        size = (2 * height - 1, 2 * width - 1)
        if self.other_sizes == 'interpolate' and size != tuple(self.kernel.shape[1:]):
            resized = F.interpolate(self.kernel[None], size, mode='bilinear', align_corners=False)[0]
            return resized * (math.prod(self.kernel.shape[1:]) / math.prod(size))
        cut = [max(self.size - side, 0) for side in (height, width)]
        return self.kernel[:, cut[0] : self.kernel.shape[1] - cut[0], cut[1] : self.kernel.shape[2] - cut[1]]

    def convolution_view(self, value: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W): the kernel slid over the map, directly or by FFT."""
        kernel = self.kernel_for(*value.shape[2:])
        if kernel[0].numel() >= FFT_FROM:
            return fft_convolution(value, kernel)
        return direct_convolution(value, kernel)

    def attention_view(self, value: Tensor) -> Tensor:
        """The same by the matrix of attention weights: H * W squared elements for each kernel."""
        height, width = value.shape[2:]
        kernel = self.kernel_for(height, width)
        margins = [(2 * side - 1 - length) // 2 for side, length in zip((height, width), kernel.shape[1:])]
        kernel = F.pad(kernel, (margins[1], margins[1], margins[0], margins[0])).flatten(1)
        # Rows of the index have query minus key, the kernel has key minus query.
        weights = kernel[:, relative_position_index(height, width).T.to(kernel.device)]
        tokens = value.flatten(2).unflatten(1, (len(kernel), -1))
        return (
            torch.einsum('nij,bncj->bnci', weights.to(value.dtype), tokens).flatten(1, 2).unflatten(2, (height, width))
        )

    def extra_repr(self) -> str:
        return f'size={self.size}, kernels={len(self.kernel)}, other_sizes={self.other_sizes!r}'


def direct_convolution(value: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) by (kernels, h, w), each for as many neighbouring channels -> (B, C, H, W), zeros beyond the map."""
    channels = value.shape[1]
    weight = kernel.repeat_interleave(channels // len(kernel), 0)[:, None].to(value.dtype)
    return F.conv2d(value, weight, padding=[side // 2 for side in kernel.shape[1:]], groups=channels)


def fft_convolution(value: Tensor, kernel: Tensor) -> Tensor:
    """As :func:`direct_convolution`, by the convolution theorem in single precision or better."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    radius = [length // 2 for length in kernel.shape[1:]]
    # Long enough that what wraps around falls outside of the map.
    size = [fast_length(side + reach) for side, reach in zip(value.shape[2:], radius)]
    with torch.autocast(value.device.type, enabled=False):
        spectrum = torch.fft.rfft2(value.to(dtype), size).unflatten(1, (len(kernel), -1))
        kernel = F.pad(kernel.to(dtype), [0, size[1] - kernel.shape[2], 0, size[0] - kernel.shape[1]])
        # Centre at the origin; the conjugate makes it a correlation, as convolutions of networks are.
        spectrum = spectrum * torch.fft.rfft2(kernel.roll([-reach for reach in radius], (1, 2))).conj()[:, None]
        output = torch.fft.irfft2(spectrum.flatten(1, 2), size)[:, :, : value.shape[2], : value.shape[3]]
    return output.to(value.dtype)


def fast_length(least: int) -> int:
    """The smallest product of 2, 3 and 5 from ``least`` on: what FFTs are fast for."""
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
