"""Token mixers on one map: the operators of the paper's figure 4, ACmix and LKCA."""

from collections.abc import Callable

import torch
from torch import nn

from mmatconv.analysis.benchmark.case import DTYPES, Candidate, Case, Setting
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.benchmark.released_baseline import ReleasedATConv
from mmatconv.backbones.attention_adapters import SpatialReductionAttention, WindowAttention
from mmatconv.errors import UserError
from mmatconv.layers import ATConv
from mmatconv.layers.token_mixers.acmix_sliding import ACmixSliding
from mmatconv.layers.token_mixers.acmix_window import ACmixWindow
from mmatconv.layers.token_mixers.cross_shaped import CrossShapedAttention
from mmatconv.layers.token_mixers.grid_attention import GridAttention
from mmatconv.layers.token_mixers.hydra import HydraAttention
from mmatconv.layers.token_mixers.inline import InLineAttention
from mmatconv.layers.token_mixers.lkca import LKCA
from mmatconv.layers.token_mixers.pooling_attention import PoolingAttention
from mmatconv.layers.token_mixers.static_convs import DepthwiseConv

REFERENCE = 'released'
HEAD_CHANNELS = 32
# What LKCA's kernel is trained for; on larger maps it is a window.
LKCA_SIZE = 14


def block_case(setting: Setting) -> Case:
    """All token mixers on one map; weights and input have the dtype.

    Heads have 32 channels. Windows have 7 pixels a side, grids 8; the map of keys and values is reduced 8 times in each
    direction, as in the first stage of PVT.

    Raises:
        UserError: Channels that attention cannot be built with.
    """
    dim, size = setting.channels, setting.kernel_size
    if dim % HEAD_CHANNELS:
        raise UserError(f'--channels {dim} must be a multiple of {HEAD_CHANNELS}, the channels of a head')
    heads = dim // HEAD_CHANNELS
    ours = randomize(ATConv(dim, size))
    released = ReleasedATConv(dim, size)
    released.load_state_dict(ours.state_dict())
    mixers: dict[str, Callable[[], nn.Module]] = {
        'ours': lambda: ours,
        REFERENCE: lambda: released,
        'window': lambda: WindowAttention(dim, heads),
        'spatial-reduction': lambda: SpatialReductionAttention(dim, heads, sr_ratio=8),
        'inline': lambda: InLineAttention(dim, heads),
        'hydra': lambda: HydraAttention(dim),
        'grid': lambda: GridAttention(dim, heads, grid_size=8),
        'pooling': lambda: PoolingAttention(dim, heads),
        'acmix-window': lambda: ACmixWindow(dim, heads),
        'acmix-sliding': lambda: ACmixSliding(dim, heads),
        'lkca': lambda: LKCA(dim, LKCA_SIZE, num_heads=heads),
        'depthwise': lambda: DepthwiseConv(dim, size),
    }
    dtype = DTYPES[setting.dtype]
    x = setting.random(dim, dtype)
    candidates, left_out = [], []
    if heads % 2:
        left_out.append(f'cross-shaped attention: needs an even number of heads, and {dim} channels make {heads}')
    else:
        mixers['cross-shaped'] = lambda: CrossShapedAttention(dim, heads)
    for name, make in mixers.items():
        torch.manual_seed(0)
        try:
            mixer = make().to(setting.device, dtype)
        except (ImportError, UserError) as error:
            # UserError stands for mmdet missing; any other is a mistake in the options.
            if not isinstance(error, ImportError) and not isinstance(error.__cause__, ImportError):
                raise
            left_out.append(f'{name} attention: {error.__cause__ or error}')
            continue
        equal_to = REFERENCE if name == 'ours' else None
        candidates.append(Candidate(name, mixer, (x,), differentiable=1, equal_to=equal_to))
    return Case('block', 'token mixers', setting, REFERENCE, candidates, left_out=left_out)
