"""Which of the paths computes the dynamic depthwise convolution and the steps around it, and what if one cannot run."""

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor

from mmatconv.errors import UserError
from mmatconv.ops.dynamic_conv.grouped import grouped, grouped_backward

PATHS = ('auto', 'reference', 'grouped', 'triton')
VARIABLE = 'MMATCONV_OP'
_Result = TypeVar('_Result')
# Why Triton was given up, by what it was given up for; a failed compilation is not tried again.
_refused: dict[tuple, str] = {}
_warned: set[str] = set()


def choose(path: str | None) -> str:
    """The path asked for: the argument, else the environment variable ``MMATCONV_OP``, else 'auto'.

    Raises:
        UserError: A path that does not exist.
    """
    chosen = os.environ.get(VARIABLE) or 'auto' if path is None else path
    if chosen not in PATHS:
        source = f'the environment variable {VARIABLE}' if path is None else 'path'
        raise UserError(f'{source} must be one of {", ".join(PATHS)}, but is {chosen!r}.')
    return chosen


def forward(input: Tensor, kernel: Tensor, path: str) -> Tensor:
    """The convolution on 'auto', 'grouped' or 'triton'."""
    return _run(input, kernel, path, lambda triton: triton.convolve(input, kernel), lambda: grouped(input, kernel))


def backward(
    grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool, with_kernel: bool, path: str
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients on 'auto', 'grouped' or 'triton'; None for one that is not wanted."""
    arguments = (grad_output, input, kernel, with_input, with_kernel)
    return _run(input, kernel, path, lambda triton: triton.gradients(*arguments), lambda: grouped_backward(*arguments))


def takes_triton(x: Tensor) -> bool:
    """Whether a step of a block that has Triton kernels goes to them, by the same choice as the operator.

    On 'auto' it does on CUDA and ROCm, on 'triton' everywhere; 'grouped' and 'reference' are torch's operations.
    """
    path = choose(None)
    return hasattr(torch.library, 'custom_op') and (path == 'triton' or (path == 'auto' and x.is_cuda))


def run_step(
    name: str, x: Tensor, module: str, on_triton: Callable[[ModuleType], _Result], on_torch: Callable[[], _Result]
) -> _Result:
    """A step of a block on Triton where :func:`takes_triton`, else, and where the kernels cannot run, on torch.

    Args:
        name: What warnings call it.
        x: Its device and dtype matter.
        module: The module of launches, as this package sees it.
        on_triton: The step, given the module.
        on_torch: The step without.
    """
    if not takes_triton(x):
        return on_torch()
    forced = choose(None) == 'triton'
    case = (name, x.device, x.dtype)
    return _attempt(name, case, forced, lambda: on_triton(_triton_module(x, module)), on_torch)


def _run(
    input: Tensor, kernel: Tensor, path: str, on_triton: Callable[..., _Result], on_grouped: Callable[[], _Result]
) -> _Result:
    if path == 'grouped' or (path == 'auto' and input.device.type != 'cuda'):
        return on_grouped()
    case = (input.device, input.dtype, kernel.shape[-1])
    name = 'dynamic_depthwise_conv2d'
    return _attempt(name, case, path == 'triton', lambda: on_triton(_triton(input, kernel)), on_grouped)


def _attempt(
    name: str, case: tuple, forced: bool, on_triton: Callable[[], _Result], on_torch: Callable[[], _Result]
) -> _Result:
    """Triton unless it failed in this case before; torch instead, with one warning for each cause, unless forced."""
    reason = None if forced else _refused.get(case)
    if reason is None:
        try:
            return on_triton()
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            if forced:
                if isinstance(error, _Unsupported):
                    raise UserError(f"path 'triton' cannot run: {error}.") from None
                raise
            reason = str(error) if isinstance(error, _Unsupported) else f'{type(error).__name__}: {error}'
            _refused[case] = reason
    if reason not in _warned:
        _warned.add(reason)
        first_line = reason.splitlines()[0]
        warnings.warn(
            f'The Triton kernels of {name} cannot run, torch computes instead: {first_line}',
            RuntimeWarning,
            stacklevel=2,
        )
    return on_torch()


class _Unsupported(Exception):
    """Triton is not for this case; the message says why."""


def _triton(input: Tensor, kernel: Tensor) -> ModuleType:
    """The module of launches of the operator, if it can run the case."""
    module = _triton_module(input, 'triton')
    if kernel.shape[-1] not in module.KERNEL_SIZES:
        sizes = ', '.join(map(str, module.KERNEL_SIZES))
        raise _Unsupported(f'the kernel size is {kernel.shape[-1]}, and it has {sizes}')
    return module


def _triton_module(x: Tensor, name: str) -> ModuleType:
    """A module of launches, if it can run on the device and in the dtype of ``x``."""
    if x.device.type != 'cuda' and os.environ.get('TRITON_INTERPRET') != '1':
        raise _Unsupported(f'its input is on {x.device}, and a GPU or TRITON_INTERPRET=1 is needed')
    try:
        module = import_module(f'mmatconv.ops.{name}')
    except ImportError as error:
        raise _Unsupported(f'Triton cannot be imported ({error})') from None
    if x.dtype not in module.DTYPES:
        raise _Unsupported(f'the dtype is {x.dtype}, and it has {", ".join(map(str, module.DTYPES))}')
    return module
