"""Which path computes the operators of this package, and what happens where Triton cannot run."""

import os
import subprocess
import warnings
from importlib import import_module
from types import ModuleType, TracebackType

import torch
from torch import Tensor

from mmatconv.errors import UserError
from mmatconv.ops.tracing import is_exporting, is_on_gpu

PATHS = ('auto', 'reference', 'grouped', 'triton')
VARIABLE = 'MMATCONV_OP'
# Folders of operators that have Triton kernels, and what warnings call them.
NAMES = {
    'dynamic_conv': 'dynamic_depthwise_conv2d',
    'context_to_kernel': 'context-to-kernel',
    'glu': 'the gated linear unit',
    'residual_norm': 'the residual sum with its norm',
}
# Why Triton was given up, by the case it was given up for; a failed compilation is not tried again.
_refused: dict[tuple, str] = {}
_warned: set[str] = set()
_modules: dict[str, ModuleType] = {}


def choose(x: Tensor, path: str | None = None) -> str:
    """The path for operators on ``x``. A layer asks once per call and passes the answer on.

    Args:
        x: Only its device matters.
        path: A name in ``PATHS``. Default: the environment variable ``MMATCONV_OP``, or 'auto' without it.

    Returns:
        'reference', 'grouped', 'triton', or 'auto' for Triton with torch as its fallback. Valid as ``path`` again, for
        which the environment is not read. Inside an export it is 'reference', whose operations every runtime knows.

    Raises:
        UserError: A path that does not exist.
    """
    chosen = (os.environ.get(VARIABLE) or 'auto') if path is None else path
    if chosen not in PATHS:
        source = f'the environment variable {VARIABLE}' if path is None else 'path'
        raise UserError(f'{source} must be one of {", ".join(PATHS)}, but is {chosen!r}.')
    if is_exporting():
        return 'reference'
    return 'grouped' if chosen == 'auto' and not is_on_gpu(x) else chosen


def takes_triton(path: str) -> bool:
    """Whether a path that :func:`choose` returned launches Triton kernels, at least at first."""
    return path in ('auto', 'triton')


class Unsupported(Exception):
    """The Triton kernels do not cover this case; the message says why."""


class TritonLaunches:
    """Runs the launches of an operator, and lets what follows the block run where Triton cannot::

        with TritonLaunches('glu', x, path) as launches:
            if launches is not None:
                return launches.gate(x, ...)
        return on_torch(x, ...)

    The block sees the operator's module ``triton_launch``, or None on paths without Triton and for cases that failed
    before. On 'auto' a failure of Triton itself (it is missing or too old, does not compile, has no such dtype) leaves
    the block with one warning for each cause. Every other exception is raised: an error of CUDA, lack of memory, a
    defect of our own. On 'triton' everything is raised.

    Args:
        operator: A folder in ``NAMES``.
        x: Its device and dtype matter.
        path: What :func:`choose` returned.
        variant: What else distinguishes cases that may fail. Default: None.

    Raises:
        UserError: Path 'triton' for a case that the kernels do not cover.
    """

    __slots__ = ('operator', 'path', 'variant', 'x')

    def __init__(self, operator: str, x: Tensor, path: str, variant: object = None) -> None:
        self.operator = operator
        self.x = x
        self.path = path
        self.variant = variant

    def __enter__(self) -> ModuleType | None:
        if not takes_triton(self.path):
            return None
        if _refused and self.path == 'auto' and self._case() in _refused:
            self._fall_back(_refused[self._case()])
            return None
        try:
            return _launches_for(self.operator, self.x)
        except Unsupported as error:
            if not self.__exit__(Unsupported, error, None):
                raise
            return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, Unsupported):
            if self.path == 'triton':
                raise UserError(f"path 'triton' cannot run: {error}.") from None
            reason = str(error)
        elif self.path == 'auto' and _is_of_triton(error):
            reason = f'{type(error).__name__}: {error}'
        else:
            return False
        _refused[self._case()] = reason
        self._fall_back(reason)
        return True

    def _case(self) -> tuple:
        return self.operator, self.x.device, self.x.dtype, self.variant

    def _fall_back(self, reason: str) -> None:
        if reason not in _warned:
            _warned.add(reason)
            warnings.warn(
                f'The Triton kernels of {NAMES[self.operator]} cannot run, torch computes instead: '
                f'{reason.splitlines()[0]}',
                RuntimeWarning,
                stacklevel=4,
            )


def _is_of_triton(error: BaseException) -> bool:
    """Whether Triton failed to compile or load a kernel, rather than the GPU to run it or we to call it."""
    kinds = [kind for kind in type(error).__mro__ if kind.__module__.split('.')[0] == 'triton']
    if kinds:
        return True
    # Its compiler also raises plain RuntimeErrors, and errors of the C compiler that builds its launcher.
    if not isinstance(error, RuntimeError | OSError | ImportError | subprocess.SubprocessError):
        return False
    if isinstance(error, torch.cuda.OutOfMemoryError) or type(error).__name__ == 'AcceleratorError':
        return False
    if str(error).startswith(('Triton Error [', 'CUDA error', 'HIP error')):
        return False
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get('__name__', '').split('.')[0] == 'triton':
            return True
        frame = frame.tb_next
    return False


def _launches_for(operator: str, x: Tensor) -> ModuleType:
    """An operator's module of launches, if it can run on the device and in the dtype of ``x``."""
    if not is_on_gpu(x) and os.environ.get('TRITON_INTERPRET') != '1':
        raise Unsupported(f'its input is on {x.device}, but it needs a GPU or TRITON_INTERPRET=1')
    module = _modules.get(operator)
    if module is None:
        try:
            module = import_module(f'mmatconv.ops.{operator}.triton_launch')
        except ImportError as error:
            if (error.name or '').split('.')[0] != 'triton':
                raise
            raise Unsupported(f'Triton cannot be imported ({error})') from None
        _modules[operator] = module
    if x.dtype not in module.DTYPES:
        raise Unsupported(f'the dtype is {x.dtype}, but there are kernels for {", ".join(map(str, module.DTYPES))}')
    return module
