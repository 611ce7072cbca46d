"""Stage 2: the operator against its definition in float64, in any order of gradients, and on maps beyond 2^31."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmatconv.analysis.benchmark.agreement import without_tf32
from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.layers import ConvGLU
from mmatconv.ops import dynamic_depthwise_conv2d, reference

SIZES = (1, 3, 5, 7)
# In the interpreter; the project's own tests take all there.
SIZES_ON_CPU = (3,)
# Of the last place of the largest value: sums are float32 inside, and rounded once.
UNITS = {torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    'every other channel': lambda x: x[:, ::2],
    'every other column': lambda x: x[..., ::2],
    'transposed': lambda x: x.transpose(2, 3),
    'expanded batch': lambda x: x[:1].expand(2, -1, -1, -1),
}
# In bfloat16 this is a map of more than 2^31 numbers, 4.3 GB, of which these rows are compared.
HUGE_SIDE, HUGE_CHANNELS, LAST_ROWS = 8224, 32, 16


def run(record: Record, target: Target) -> None:
    shapes = [(2, 72, 57, 43), (3, 35, 1, 17)] if target.on_gpu else [(1, 3, 4, 5)]
    with without_tf32():
        for name, dtype in target.dtypes.items():
            for memory_format in target.formats:
                for size in SIZES if target.on_gpu else SIZES_ON_CPU:
                    record.check(
                        f'operator, K {size}, {name}, {memory_format}',
                        lambda d=dtype, f=memory_format, k=size: against_definition(
                            [target.random(*shape, dtype=d, memory_format=f) for shape in shapes], k, target
                        ),
                    )
        for name, view in list(VIEWS.items())[: None if target.on_gpu else 1]:
            x = target.random(2, 80, 30, 30) if target.on_gpu else target.random(2, 4, 4, 4)
            record.check(f'operator, {name}', lambda x=x, view=view: against_definition([view(x)], 3, target))
        record.check('gradients of first and second order by finite differences', lambda: any_order(target))
        if target.on_gpu:
            record.check('operator on a map of more than 2^31 numbers', lambda: huge_operator(target))
            record.check('gated unit on a hidden map of more than 2^31 numbers', lambda: huge_gate(target))
        else:
            record.needs_gpu(
                'operator on a map of more than 2^31 numbers', 'gated unit on a hidden map of more than 2^31 numbers'
            )


def against_definition(maps: Sequence[Tensor], size: int, target: Target) -> str:
    largest = max(units_off(x, size, target) for x in maps)
    return f'{largest:.2f} units in the last place'


def units_off(x: Tensor, size: int, target: Target) -> float:
    kernel = target.random(x.shape[0], x.shape[1], size, size, dtype=x.dtype, seed=1)
    grad = target.random(*x.shape, dtype=x.dtype, seed=2)
    x, kernel = x.detach().requires_grad_(), kernel.requires_grad_()
    output = dynamic_depthwise_conv2d(x, kernel, path='triton')
    found = (output, *torch.autograd.grad(output, (x, kernel), grad))
    wide = [t.detach().cpu().double().requires_grad_() for t in (x, kernel)]
    exact = reference(*wide)
    expected = (exact, *torch.autograd.grad(exact, wide, grad.cpu().double()))
    largest = 0.0
    for name, a, e in zip(('output', 'gradient of input', 'gradient of kernel'), found, expected):
        error = ((a.detach().cpu().double() - e).abs().max() / e.abs().max().clamp_min(1e-30)).item()
        units = error / torch.finfo(x.dtype).eps
        if not units <= UNITS[x.dtype]:
            raise Disagreement(f'{name} is off by {units:.3g} units in the last place, allowed {UNITS[x.dtype]}')
        largest = max(largest, units)
    return largest


def any_order(target: Target) -> None:
    for memory_format in target.formats if target.on_gpu else ('channels_last',):
        x = target.random(1, 1, 2, 3, dtype=torch.float64, memory_format=memory_format).requires_grad_()
        kernel = target.random(1, 1, 3, 3, dtype=torch.float64, seed=1).requires_grad_()
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            check(lambda x, k: dynamic_depthwise_conv2d(x, k, path='triton'), (x, kernel), fast_mode=True)


def huge_operator(target: Target) -> str:
    x = torch.empty(1, HUGE_CHANNELS, HUGE_SIDE, HUGE_SIDE, dtype=torch.bfloat16, device=target.device).normal_()
    kernel = target.random(1, HUGE_CHANNELS, 3, 3, dtype=torch.bfloat16)
    for memory_format in target.formats.values():
        x = x.contiguous(memory_format=memory_format)
        with torch.no_grad():
            output = dynamic_depthwise_conv2d(x, kernel, path='triton')[:, :, -LAST_ROWS:]
            expected = reference(x[:, :, -LAST_ROWS - 1 :].float(), kernel.float())[:, :, 1:]
        torch.testing.assert_close(output.float(), expected, rtol=2**-8, atol=2**-8)
    return f'{x.numel() / 2**31:.3f} * 2^31 numbers, the last rows equal'


def huge_gate(target: Target) -> str:
    torch.manual_seed(0)
    layer = ConvGLU(8, 341).to(target.device, torch.bfloat16)
    x = torch.empty(1, 8, 2560, 2560, dtype=torch.bfloat16, device=target.device).normal_()
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        output = layer(x)[:, :, -LAST_ROWS:]
        expected = layer(x[:, :, -LAST_ROWS - 1 :].contiguous(memory_format=torch.channels_last))[:, :, 1:]
    scale = expected.abs().max().item()
    torch.testing.assert_close(output, expected, rtol=0, atol=2**-7 * scale)
    return f'{x[0, 0].numel() * 341 / 2**31:.3f} * 2^31 numbers, the last rows equal'
