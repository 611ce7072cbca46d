"""Stage 3: layers against float64, in every dtype, both memory formats, and under autocast."""

from collections.abc import Callable

import torch
from torch import nn

from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.gpu_check.agreement import check_module
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.deploy.folded_atconv import FoldedATConv
from mmatconv.layers import MLP, ATConv, Block, ConvGLU

# Gated units of the published sizes have hidden sizes like this one, of which no vector of 128 bits is a divisor.
HIDDEN = 341


def run(record: Record, target: Target) -> None:
    dim, hidden, size = (64, HIDDEN, (23, 37)) if target.on_gpu else (16, 11, (3, 4))
    makers: dict[str, Callable[[], nn.Module]] = {
        'ATConv': lambda: ATConv(dim),
        'ATConv K 7, grid': lambda: ATConv(dim, 7, context_pool='grid'),
        f'ConvGLU, hidden {hidden}': lambda: ConvGLU(dim, hidden),
        f'ConvGLU without norm, hidden {hidden}': lambda: ConvGLU(dim, hidden, norm=False),
        'Block': lambda: Block(dim, ATConv(dim), ConvGLU(dim, hidden), layer_scale=True),
        'Block with MLP': lambda: Block(dim, ATConv(dim), MLP(dim, hidden)),
    }
    # In the interpreter one of each pair tells what there is to tell.
    chosen = makers if target.on_gpu else ('ATConv', 'Block')
    modules = {name: randomize(makers[name]()) for name in chosen}
    folded = FoldedATConv(modules['ATConv'])
    for name, dtype in target.dtypes.items():
        for memory_format in target.formats if target.on_gpu else ('channels_last',):
            for layer, module in modules.items():
                x = target.random(2, dim, *size, dtype=dtype, memory_format=memory_format)
                record.check(
                    f'{layer}, {name}, {memory_format}',
                    lambda m=module, x=x, d=dtype: check_module(m, x, target, d),
                )
            record.check(
                f'ATConv folded, {name}, {memory_format}',
                lambda x=x, d=dtype: check_module(folded, x, target, d, backward=False),
            )
        if dtype == torch.float32:
            continue
        for layer in ('ATConv', 'Block'):
            x = target.random(2, dim, *size, memory_format='channels_last')
            record.check(
                f'{layer}, {name} autocast, channels_last',
                lambda m=modules[layer], x=x, d=dtype: check_module(m, x, target, d, autocast=True),
            )
