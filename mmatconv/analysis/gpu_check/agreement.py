"""A module on the device against itself in float64 on the CPU: outputs, and gradients of input and parameters."""

import copy
from collections.abc import Mapping
from statistics import quantiles

import torch
from torch import Tensor, nn

from mmatconv.analysis.benchmark.agreement import FACTOR, KINDS, TOLERANCE, errors, without_tf32
from mmatconv.analysis.benchmark.runs import leaves
from mmatconv.analysis.gpu_check.record import Disagreement
from mmatconv.analysis.gpu_check.target import PLAIN, Target, on_path

# Above this the arithmetic of torch itself says nothing about ours.
MOST_OF_PLAIN = 0.2


def check_module(
    module: nn.Module, x: Tensor, target: Target, dtype: torch.dtype, autocast: bool = False, backward: bool = True
) -> str:
    """Compare a module with itself in float64 on the CPU.

    In float32 each tensor may be off by ``TOLERANCE`` of its root mean square. In half precision the same module on
    torch's own operations is the measure: twice its error in that tensor, or twice what a quarter of its outputs or
    gradients are off by or more (an error of few numbers is small by chance), and one rounding of the dtype.

    Args:
        module: On the CPU, float32; it is copied.
        x: Its input on the device in the dtype, or float32 for autocast.
        target: The device.
        dtype: Of weights and input, or of autocast.
        autocast: Keep weights and input in float32 and let autocast give the dtype. Default: False.
        backward: Compare gradients too. Default: True.

    Returns:
        The largest error, and torch's own in half precision.

    Raises:
        Disagreement: An error is larger than allowed.
    """
    narrow = copy.deepcopy(module).to(target.device, x.dtype)
    truth = run(copy.deepcopy(narrow).cpu().double(), x.detach().cpu().double(), None, backward)
    with without_tf32():
        amp = (target.device, dtype) if autocast else None
        found = errors(run(narrow, x, amp, backward), truth)
        allowed = dict.fromkeys(truth, TOLERANCE)
        note = ''
        if dtype != torch.float32:
            with on_path(PLAIN):
                plain = errors(run(copy.deepcopy(module).to(target.device, x.dtype), x, amp, backward), truth)
            allowed = allowed_beside(plain, torch.finfo(dtype).eps)
            note = f', torch {max(plain.values()):.1e}'
    assert_allowed(found, allowed)
    return f'error {max(found.values()):.1e}{note}'


def allowed_beside(plain: Mapping[str, float], rounding: float) -> dict[str, float]:
    """What may be off where torch's own operations are off by ``plain``.

    Raises:
        Disagreement: So far that nothing can be compared with it.
    """
    allowed = {}
    for kind in KINDS:
        of_kind = {name: error for name, error in plain.items() if name.startswith(kind)}
        usual = quantiles(of_kind.values(), n=4)[-1] if len(of_kind) > 1 else max(of_kind.values(), default=0.0)
        if not usual < MOST_OF_PLAIN:
            raise Disagreement(f'torch itself is off by {usual:.2g} in {kind}s; nothing can be compared with it')
        allowed.update({name: FACTOR * max(error, usual) + rounding + TOLERANCE for name, error in of_kind.items()})
    return allowed


def assert_allowed(found: Mapping[str, float], allowed: Mapping[str, float]) -> None:
    """Raise a Disagreement that names the tensor furthest beyond what is allowed."""
    worst = max(found, key=lambda name: found[name] / allowed[name] if found[name] == found[name] else float('inf'))
    if not found[worst] <= allowed[worst]:
        raise Disagreement(f'{worst} is off by {found[worst]:.1e}, allowed {allowed[worst]:.1e}')


def run(
    module: nn.Module, x: Tensor, autocast: tuple[str, torch.dtype] | None = None, backward: bool = True
) -> dict[str, Tensor]:
    """Outputs, and gradients of ``sum(output * weights)``, as float64 on the CPU."""
    x = x.detach().requires_grad_(backward)
    device, dtype = autocast or (x.device.type, torch.bfloat16)
    with torch.set_grad_enabled(backward), torch.autocast(device, dtype, enabled=autocast is not None):
        outputs = leaves(module(x))
    results = {f'output {i}': output for i, output in enumerate(outputs)}
    if backward:
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
        torch.autograd.backward(outputs, weights)
        results['gradient of input'] = x.grad
        results.update({f'gradient of {name}': p.grad for name, p in module.named_parameters() if p.grad is not None})
    return {name: tensor.detach().cpu().double() for name, tensor in results.items()}
