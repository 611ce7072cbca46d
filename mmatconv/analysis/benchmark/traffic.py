"""What a training step asks of a GPU, counted without one: launches, bytes read and written, activations kept.

The model runs on tensors without memory, with the kernels and under the autocast of a GPU. Counted is each
operation of torch that computes or copies, and each Triton kernel, as one launch; views and empty tensors are none.
Its bytes are those of its inputs and results, each once: what stays in caches, and what cuDNN or a reduction write
between their own launches, is not seen.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmatconv.analysis.benchmark.backbones import backbone_case
from mmatconv.analysis.benchmark.case import DTYPES, FORMATS, Setting
from mmatconv.analysis.benchmark.pretended_gpu import cuda_autocast, pretended_gpu
from mmatconv.analysis.benchmark.runs import leaves
from mmatconv.backbones.base import MIN_INPUT_SIZE

# Views by what they do, if not by their schema.
VIEWS = ('_unsafe_view', '_reshape_alias', 'detach', 'alias', 'lift_fresh')
OVERWRITING = ('copy_', 'zero_', 'fill_', 'bernoulli_', 'normal_', '_foreach_copy_', '_foreach_zero_')


@dataclass
class Work:
    """Of one pass, forward or backward.

    Attributes:
        launches: By the operation's or kernel's name.
        bytes: Read and written, likewise.
    """

    launches: Counter = field(default_factory=Counter)
    bytes: Counter = field(default_factory=Counter)

    def add(self, name: str, read: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        self.launches[name] += 1
        self.bytes[name] += sum(map(touched_bytes, (*read, *written)))


@dataclass
class Traffic:
    """Of one candidate's forward and backward pass.

    Attributes:
        saved: Bytes that are kept for the backward pass, parameters and images apart.
    """

    name: str
    forward: Work
    backward: Work
    saved: int


def touched_bytes(x: Tensor) -> int:
    """Bytes of the elements of ``x``, those that an expanded dimension repeats once."""
    elements = x.element_size()
    for size, stride in zip(x.shape, x.stride()):
        elements *= size if stride or size == 0 else 1
    return elements


class Counted(TorchDispatchMode):
    """Adds every operation of torch to ``self.work`` while it is entered, and what :meth:`launch` is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def launch(self, name: str, arguments: tuple) -> None:
        """A Triton kernel."""
        maps = {(_storage(x), x.storage_offset()): x for x in tree_leaves(arguments) if _is_tensor(x)}
        self.work.add(name, list(maps.values()), ())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.split('::')[1]
        # Those in place on lists return nothing.
        written = [x for x in tree_leaves(args[0] if name.startswith('_foreach') else result) if _is_tensor(x)]
        if written and not _is_free(func, name):
            read = [x for x in tree_leaves((args, kwargs)) if _is_tensor(x)]
            overwritten = name in OVERWRITING or 'out' in func._overloadname
            self.work.add(name, [x for x in read if not (overwritten and any(x is y for y in written))], written)
        return result


def _is_tensor(x: object) -> bool:
    return isinstance(x, Tensor)


def _is_free(func: torch._ops.OpOverload, name: str) -> bool:
    """Whether an operation launches nothing."""
    if name in VIEWS or 'empty' in name:
        return True
    return any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)


def traffic(name: str, setting: Setting) -> Iterator[Traffic]:
    """What forward and backward of a backbone's variants ask of a GPU, in training mode under autocast.

    Args:
        name: As for level 'backbone'.
        setting: Batch, size, dtype and memory format.

    Yields:
        Of 'ours', 'released' and 'static' one after another.
    """
    counted = Counted()
    # Weights are made before they are fake: their initialisation reads numbers.
    for candidate in backbone_case(name, replace(setting, size=(MIN_INPUT_SIZE,) * 2, device='cpu')).candidates:
        with pretended_gpu(counted.launch), FakeTensorMode():
            images = torch.empty(setting.batch, 3, *setting.size)
            images = images.contiguous(memory_format=FORMATS[setting.memory_format])
            yield _count(candidate.name, _faked(candidate.function), images, counted, DTYPES[setting.dtype])


def _faked(module: nn.Module) -> nn.Module:
    """The module with fake tensors in the place of its own."""

    def fake(x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=x.dtype)

    for layer in module.modules():
        for name, x in layer._parameters.items():
            layer._parameters[name] = None if x is None else nn.Parameter(fake(x), x.requires_grad)
        for name, x in layer._buffers.items():
            layer._buffers[name] = None if x is None else fake(x)
    return module


def _count(name: str, module: nn.Module, images: Tensor, counted: Counted, dtype: torch.dtype) -> Traffic:
    module.train()
    known = {_storage(x) for x in (images, *module.parameters(), *module.buffers())}
    saved = {}

    def keep(x: Tensor) -> Tensor:
        if _storage(x) not in known:
            saved[_storage(x)] = x
        return x

    counted.work = forward = Work()
    with counted, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), cuda_autocast(dtype):
        outputs = leaves(module(images))
    gradients = [torch.empty_like(x) for x in outputs]
    counted.work = backward = Work()
    with counted:
        torch.autograd.backward(outputs, gradients)
    return Traffic(name, forward, backward, sum(x.untyped_storage().nbytes() for x in saved.values()))


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata
