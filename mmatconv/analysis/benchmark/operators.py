"""The dynamic depthwise convolution itself: ours, the released code's two expressions, the bound, and a plain copy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.analysis.benchmark.case import DTYPES, FORMATS, PASSES, Candidate, Case, Setting
from mmatconv.ops import dynamic_depthwise_conv2d

REFERENCE, COPY = 'grouped', 'copy'


def grouped(x: Tensor, kernel: Tensor) -> Tensor:
    """The released code: one convolution with ``B * C`` groups; a channels_last map is copied twice."""
    groups, size = kernel.shape[:2].numel(), kernel.shape[-1]
    folded = x.reshape(1, groups, *x.shape[2:])
    output = F.conv2d(folded, kernel.reshape(groups, 1, size, size), padding=size // 2, groups=groups)
    return like(output.reshape(x.shape), x)


def unfold(x: Tensor, kernel: Tensor) -> Tensor:
    """The other expression of the released code, commented out there: all windows written out."""
    size = kernel.shape[-1]
    windows = F.unfold(x, size, padding=size // 2).unflatten(1, (x.shape[1], size * size))
    return like((windows * kernel.flatten(2).unsqueeze(-1)).sum(2).unflatten(2, x.shape[2:]), x)


def static(x: Tensor, weight: Tensor) -> Tensor:
    """One kernel for all samples, (C, 1, K, K): what a depthwise convolution costs at least here."""
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=x.shape[1])


def copy(x: Tensor, target: Tensor) -> Tensor:
    """What the machine's memory allows: one pass of reading and one of writing."""
    return target.copy_(x)


def like(output: Tensor, x: Tensor) -> Tensor:
    """``output`` in the memory format of ``x``."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return output.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def ours_on(path: str) -> object:
    """Our function with its path forced."""
    return lambda x, kernel: dynamic_depthwise_conv2d(x, kernel, path=path)


def operator_case(setting: Setting) -> Case:
    """All operators on one map and one set of kernels."""
    dtype, size = DTYPES[setting.dtype], setting.kernel_size
    x = setting.random(setting.channels, dtype)
    generator = torch.Generator().manual_seed(2)
    kernel = torch.randn(setting.batch, setting.channels, size, size, generator=generator) / size
    kernel = kernel.to(x).contiguous(memory_format=FORMATS[setting.memory_format])
    weight = kernel[:1].transpose(0, 1).contiguous()
    floor = dict(passes=PASSES[setting.mode])
    dynamic = dict(inputs=(x, kernel), differentiable=2, **floor)
    candidates = [
        Candidate('ours', dynamic_depthwise_conv2d, equal_to=REFERENCE, **dynamic),
        Candidate(REFERENCE, grouped, **dynamic),
        Candidate('unfold', unfold, equal_to=REFERENCE, **dynamic),
        Candidate('static', static, (x, weight), differentiable=2, **floor),
        Candidate(COPY, copy, (x.detach(), torch.empty_like(x)), passes=PASSES['forward'], forward_only=True),
    ]
    if setting.device == 'cuda':
        # Ours chooses Triton there by itself, and falls back where it cannot run.
        candidates[1:1] = [
            Candidate(f'ours, {path}', ours_on(path), equal_to=REFERENCE, **dynamic) for path in ('triton', 'grouped')
        ]
    title = f'{size} x {size} dynamic depthwise convolution'
    return Case('operator', title, setting, REFERENCE, candidates)
