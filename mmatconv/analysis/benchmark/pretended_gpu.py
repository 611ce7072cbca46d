"""A GPU that is not there: its autocast, and Triton kernels that are recorded and not run.

Tensors stay the CPU's. Fake tensors of a GPU do not serve: torch's autograd engine wants a stream for each.
"""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from mmatconv.ops import tracing
from mmatconv.ops.paths import NAMES

Recorder = Callable[[str, tuple], None]


@contextmanager
def pretended_gpu(record: Recorder | None = None) -> Iterator[None]:
    """Our operators take every tensor for one of a GPU; their kernels are not run.

    Triton need not be installed: a stand-in takes its place where it is missing or too old for the kernels.

    Args:
        record: Called instead of Triton for each launch, with the kernel's name and its arguments by position. Default:
            None, Triton prepares every launch, for its time, and stops before the driver.
    """
    jit_function = _jit_function()

    def run(kernel: object, *args, grid: tuple, warmup: bool, **constants) -> None:
        record(kernel.fn.__name__, args)

    with ExitStack() as stack:
        stack.enter_context(replaced(tracing, 'gpu_is_pretended', True))
        if record is not None:
            stack.enter_context(replaced(jit_function, 'run', run))
            # Fake tensors have no addresses, which a plan would look at.
            stack.enter_context(replaced(import_module('mmatconv.ops.triton_plans'), 'knobs', None))
        elif hasattr(jit_function, '_do_compile'):
            stack.enter_context(_pretended_driver(jit_function))
        yield


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """``owner.name`` is ``value``, until it is again what it was."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


DEVICE = -1  # What no real GPU is numbered.


class KernelStub:
    """In the place of what Triton's compiler returns: launched, it does nothing.

    Attributes:
        key: All that Triton specialised the kernel on.
    """

    function = packed_metadata = None

    def __init__(self, key: str) -> None:
        self.key = key

    def launch_metadata(self, grid: tuple, stream: int, *args) -> None:
        return None

    def run(self, *args) -> None:
        return None


@contextmanager
def _pretended_driver(jit_function: type) -> Iterator[None]:
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    kernels = []

    def compiled(kernel: object, key: str, signature: dict, device: int, *args) -> KernelStub:
        kernels.append(kernel)
        return kernel.device_caches[device][0].setdefault(key, KernelStub(key))

    stub = SimpleNamespace(
        get_current_device=lambda: DEVICE,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget('cuda', 90, 32),
    )
    try:
        with replaced(jit_function, '_do_compile', compiled), replaced(driver, '_active', stub):
            yield
    finally:
        for kernel in kernels:
            kernel.device_caches.pop(DEVICE, None)


@contextmanager
def cuda_autocast(dtype: torch.dtype) -> Iterator[None]:
    """Autocast of CPU tensors as a GPU has it: some operations that a CPU leaves alone compute in float32.

    Args:
        dtype: Of products and convolutions; float32 for no autocast.
    """
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32), _InFloat32():
        yield


# Those of torch's list for CUDA that the models here call.
IN_FLOAT32 = ('layer_norm', 'pow', '__pow__', 'rsqrt', 'exp', 'log', 'sum', 'softmax', 'cumsum', 'norm')


class _InFloat32(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, '__name__', '') in IN_FLOAT32 and torch.is_autocast_cpu_enabled():
            with torch.autocast('cpu', enabled=False):
                args, kwargs = tree_map(_widened, (args, kwargs))
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _widened(x: object) -> object:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x


@lru_cache
def _jit_function() -> type:
    """The class of Triton's kernels."""
    try:
        from triton.runtime.jit import JITFunction

        import mmatconv.ops.triton_functions  # noqa: F401
    except ImportError:
        # torch looks for Triton too, and must not take the stand-in for it.
        import torch._dynamo  # noqa: F401

        modules = _stand_in()
        before = {name: sys.modules[name] for name in modules if name in sys.modules}
        sys.modules.update(modules)
        for operator in NAMES:
            import_module(f'mmatconv.ops.{operator}.triton_launch')
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)
        return modules['triton.runtime.jit'].JITFunction
    return JITFunction


def _stand_in() -> dict[str, types.ModuleType]:
    """Modules in the place of Triton's, enough to define kernels and to launch stubs of them."""

    class JITFunction:
        def __init__(self, fn: Callable) -> None:
            self.fn = fn
            self.pre_run_hooks = []

        def __getitem__(self, grid: tuple) -> Callable:
            return lambda *args, **constants: self.run(*args, grid=grid, warmup=False, **constants)

        def run(self, *args, **constants) -> None:
            pass

    def jit(fn: Callable | None = None, **options) -> JITFunction | Callable:
        return jit if fn is None else JITFunction(fn)

    names = ('triton', 'triton.language', 'triton.runtime', 'triton.runtime.jit')
    modules = {name: types.ModuleType(name) for name in names}
    triton, language, runtime, runtime_jit = modules.values()
    triton.__version__ = '3.6.0'
    triton.jit, triton.language, triton.runtime = jit, language, runtime
    # Dtypes and annotations are all that is read of it outside kernels.
    language.__getattr__ = lambda name: type(name, (), {})
    runtime.jit, runtime_jit.JITFunction = runtime_jit, JITFunction
    return modules
