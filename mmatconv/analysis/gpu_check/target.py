"""What the stages run on: a GPU, or the CPU with small sizes and Triton's interpreter."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mmatconv.analysis.benchmark.case import DTYPES, FORMATS
from mmatconv.ops.paths import VARIABLE

PLAIN = 'grouped'


@dataclass(frozen=True)
class Target:
    """The device of a check.

    Attributes:
        device: 'cuda' or 'cpu'.
    """

    device: str

    @property
    def on_gpu(self) -> bool:
        return self.device == 'cuda'

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """By name; without float16 on a CPU, where it tells nothing more than bfloat16."""
        return DTYPES if self.on_gpu else {name: DTYPES[name] for name in ('float32', 'bfloat16')}

    @property
    def formats(self) -> dict[str, torch.memory_format]:
        return FORMATS

    def synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def random(
        self, *shape: int, dtype: torch.dtype = torch.float32, memory_format: str = 'contiguous', seed: int = 0
    ) -> Tensor:
        """Normal random numbers, the same in every call with the same shape."""
        generator = torch.Generator().manual_seed(seed + sum(shape))
        x = torch.randn(shape, generator=generator).to(self.device, dtype)
        return x.contiguous(memory_format=FORMATS[memory_format]) if x.dim() == 4 else x


@contextmanager
def on_path(name: str) -> Iterator[None]:
    """The path of all operators inside."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
