"""Mixed precision on a machine without a GPU, where MMEngine's AmpOptimWrapper refuses to be built."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmatconv.openmmlab.bfloat16_ops import support_bfloat16_on_cpu


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16 on the CPU, with mmcv's NMS and RoIAlign in float32.

    bfloat16 has float32's range, so there is no loss scale. The arguments are those of MMEngine's OptimWrapper.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        support_bfloat16_on_cpu()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a training step's forward pass."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield
