"""Lateral inhibition: what figures 1 b and 3 of arXiv 2510.20092 measure."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mmatconv.layers import ATConv

# Standard deviation of the blur in pixels of the map; the caption of figure 3 leaves it open.
SIGMA = 1.0


@torch.no_grad()
def suppression(layer: nn.Module, x: Tensor, positions: Sequence[tuple[int, int]], strength: float = 1.0) -> Tensor:
    """The off-center suppression response to positive perturbations at anchors (caption of figure 1).

    The caption gives no formula. Here: every channel of an anchor is raised by ``strength`` standard deviations of the
    map, and the response at another position is by how much the output falls there, summed over the channels that
    fall. The anchor itself is 0. The mean over the anchors, each alone.

    Args:
        layer: (1, C, H, W) -> (1, C, H, W).
        x: (1, C, H, W).
        positions: The anchors.
        strength: In standard deviations of ``x``. Default: 1.

    Returns:
        (H, W), not negative.
    """
    before = layer(x)
    total = torch.zeros_like(x[0, 0])
    for row, column in positions:
        raised = x.clone()
        raised[:, :, row, column] += strength * x.std()
        fallen = (before - layer(raised))[0].clamp(min=0).sum(0)
        fallen[row, column] = 0
        total += fallen
    return total / len(positions)


def gaussian_blur(x: Tensor, sigma: float = SIGMA) -> Tensor:
    """``G_sigma(x)`` of (B, C, H, W), cut off at 3 sigma, edges repeated."""
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-(torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    channels = x.shape[1]
    for pad, shape in (((reach, reach, 0, 0), (1, 1, 1, -1)), ((0, 0, reach, reach), (1, 1, -1, 1))):
        kernel = taps.reshape(shape).repeat(channels, 1, 1, 1)
        x = F.conv2d(F.pad(x, pad, mode='replicate'), kernel, groups=channels)
    return x


def centre_surround_contrast(x: Tensor, sigma: float = SIGMA) -> float:
    """``CSC(x) = E[|x - G_sigma(x)|] / E[|x|]`` (figure 3 a) of (B, C, H, W); 0 for a constant or empty map."""
    mean = x.abs().mean()
    # Rounding of the blur is not contrast.
    difference = (x - gaussian_blur(x, sigma)).abs().mean()
    if mean == 0 or difference <= 4 * torch.finfo(x.dtype).eps * mean:
        return 0.0
    return float(difference / mean)


def channel_effective_rank(x: Tensor) -> float:
    """``CER(x) = exp(H(p)) / C`` (figure 3 b) with ``p`` the eigenvalues of the channel covariance over their sum.

    Args:
        x: (B, C, H, W); all samples and positions count as observations.

    Returns:
        From 1 / C, all channels are multiples of one, to 1, all vary equally and independently; 0 for a constant map.
    """
    observations = x.transpose(0, 1).flatten(1).double()
    observations = observations - observations.mean(1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(observations @ observations.T).clamp(min=0)
    return effective_number(eigenvalues) / len(eigenvalues)


def effective_number(values: Tensor) -> float:
    """``exp(H(p))`` with ``p`` the (N,) values over their sum: N if all are equal, 1 if one is not 0, 0 if none is."""
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def without_modulation(layer: ATConv, *inputs: Tensor) -> Tensor:
    """What ATConv computes without differential kernel modulation: every lambda of equation 8 is 0."""
    off = torch.full_like(layer.difference_control, -torch.inf)
    return functional_call(layer, {'difference_control': off}, inputs)
