"""Launches of Triton kernels, worked out once for each layout of their tensors.

What a wrapper finds from shapes, strides and dtypes (tiles, grid, sizes, constants) is the same at every step of a
training run, and so is what Triton's own front door finds from the arguments, in some 20 us. A wrapper therefore
describes its tensors by :func:`layout`, has a :class:`Plan` built from the layouts, and launches that::

    @lru_cache(PLANS)
    def _plan(x: Layout, y: Layout, size: int) -> Plan:
        blocks, sizes, strides, constants = map_arguments((x, y), ...)
        return Plan(kernel, (x.shape[0] * blocks[0],), (*sizes, *strides), K=size, **constants)

    def wrapper(x: Tensor, size: int) -> Tensor:
        y = torch.empty(...)
        _plan(layout(x), layout(y), size)(x, y)
        return y

The builder must depend on nothing but its arguments. Tensors come first in the kernel's signature, then numbers, then
constants. A plan switches to the device of its tensors by itself.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

try:
    from triton import knobs
    from triton.runtime.driver import driver
except ImportError:  # Triton before 3.4: every launch goes through its front door
    knobs = driver = None

# Layouts that each wrapper remembers; a detector meets some hundred sizes of maps.
PLANS = 1024
HIP = bool(torch.version.hip)


class Layout(NamedTuple):
    """All of a tensor but its values, hashable."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """As ``Tensor.stride``."""
        return self.strides if dim is None else self.strides[dim]

    def element_size(self) -> int:
        """As ``Tensor.element_size``."""
        return self.dtype.itemsize


def layout(x: Tensor) -> Layout:
    """The layout of a tensor."""
    return Layout(x.shape, x.stride(), x.dtype, x.device)


class Plan:
    """A launch of a kernel of which only the tensors' addresses are open.

    The first launch goes through Triton's front door, which compiles. What it chose then is launched again directly for
    tensors that Triton specialises on alike: dtype and alignment of each, on ROCm also whether 32 bits reach all of
    it, the device, and Triton's debug mode. Numbers and constants never change in a plan. Whenever something wants to
    see launches (profilers' hooks, Triton's interpreter, hooks into its compiler), all go through the front door;
    environment variables of Triton count as they were at the first launch.

    Args:
        kernel: A ``triton.jit`` function.
        grid: Programs along up to three axes.
        numbers: What follows the tensors in its signature.
        constants: Its constexpr arguments and Triton's options.
    """

    __slots__ = ('_compiled', 'constants', 'grid', 'kernel', 'numbers')

    def __init__(
        self, kernel: 'triton.JITFunction', grid: tuple[int, ...], numbers: Sequence[int], **constants
    ) -> None:
        self.kernel = kernel
        self.grid = grid
        self.numbers = tuple(numbers)
        self.constants = constants
        self._compiled: dict[tuple, Callable] = {}

    def __call__(self, *tensors: Tensor | None) -> None:
        """Launch on the current stream of the tensors' device.

        Args:
            tensors: All on one device, of which only the first must be there.
        """
        device = tensors[0].get_device()
        if device >= 0 and device != torch.cuda.current_device():
            with torch.cuda.device(device):
                self._launch(device, tensors)
        else:
            self._launch(device, tensors)

    def _launch(self, device: int, tensors: tuple[Tensor | None, ...]) -> None:
        if knobs is None or _is_watched(self.kernel):
            self.kernel[self.grid](*tensors, *self.numbers, **self.constants)
            return
        key = (device, knobs.runtime.debug, *_specialisations(tensors))
        launch = self._compiled.get(key)
        if launch is not None:
            launch(device, tensors)
            return
        compiled = self.kernel[self.grid](*tensors, *self.numbers, **self.constants)
        if compiled is not None:  # as from Triton's interpreter
            self._compiled[key] = self._direct(compiled)

    def _direct(self, compiled: 'triton.compiler.CompiledKernel') -> Callable[[int, tuple[Tensor | None, ...]], None]:
        """What launches a compiled kernel on a device with tensors."""
        run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
        x, y, z = (*self.grid, 1, 1)[:3]
        # Triton's launcher takes what follows the tensors in the order of the signature, constants too.
        constants = [parameter.name for parameter in self.kernel.params if parameter.is_constexpr]
        rest = *self.numbers, *(self.constants[name] for name in constants)
        stream_of = driver.active.get_current_stream

        def launch(device: int, tensors: tuple[Tensor | None, ...]) -> None:
            # No metadata and no hooks: nobody watches.
            run(x, y, z, stream_of(device), function, metadata, None, None, None, *tensors, *rest)

        return launch


def _specialisations(tensors: Sequence[Tensor | None]) -> list[tuple | None]:
    """What Triton distinguishes in each tensor."""
    if HIP:
        return [
            None if x is None else (x.dtype, x.data_ptr() % 16 == 0, x.untyped_storage().nbytes() < 2**31)
            for x in tensors
        ]
    return [None if x is None else (x.dtype, x.data_ptr() % 16 == 0) for x in tensors]


def _is_watched(kernel: 'triton.JITFunction') -> bool:
    """Whether someone wants to see each launch or each compilation."""
    runtime = knobs.runtime
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    hooked = getattr(enter, 'calls', enter) or getattr(leave, 'calls', leave)
    return bool(hooked or runtime.add_stages_inspection_hook or getattr(kernel, 'pre_run_hooks', None))
