"""Adaptive gradient clipping (arXiv 2102.06171), an option of the released training code that OpenMMLab lacks."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mmatconv.errors import UserError


def unitwise_norm(x: Tensor) -> Tensor:
    """L2 norm of each unit: (D, ...) -> (D, 1, ...), one output channel or row each; a vector or scalar is one unit."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) if x.ndim > 1 else None, keepdim=True)


@torch.no_grad()
def adaptive_clip_grad_(
    parameters: Iterable[Tensor], clip: float = 0.01, eps: float = 1e-3, grad_scale: float | Tensor = 1.0
) -> None:
    """Scales down the gradient G of every unit whose norm is above ``clip * max(||W||, eps)``, in place.

    Equation 3 of arXiv 2102.06171.

    Args:
        parameters: Parameters; those without a gradient are passed over.
        clip: Largest ratio of a gradient's norm to its weight's. Default: 0.01.
        eps: Least norm of a weight that counts, so that what starts at zero can move. Default: 1e-3.
        grad_scale: Factor the gradients still carry. Default: 1.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        limit = unitwise_norm(parameter).clamp_(min=eps) * (clip * grad_scale)
        norm = unitwise_norm(parameter.grad)
        parameter.grad.mul_((limit / norm.clamp_(min=torch.finfo(norm.dtype).tiny)).clamp_(max=1.0))


@HOOKS.register_module()
class AdaptiveGradClipHook(Hook):
    """Clips gradients adaptively just before each step of the optimizer.

    It acts inside ``optimizer.step()``, so that it sees what the optimizer sees with every optimizer wrapper: sums of
    accumulated gradients, averaged over the processes, with the loss scale of mixed precision taken off. Whole
    parameters are needed, so FSDP and ZeRO are out.

    Args:
        clip: Largest ratio of a gradient's norm to its weight's; None clips nothing. Default: 0.01.
        eps: Least norm of a weight that counts. Default: 1e-3.
        exclude: How the names of the parameters begin that are left alone. Default: ('head.',), the classifier, as in
            the paper and in timm's 'agc' mode.

    Raises:
        UserError: ``clip`` or ``eps`` is not positive, or ``exclude`` fits no parameter.
    """

    def __init__(self, clip: float | None = 0.01, eps: float = 1e-3, exclude: Sequence[str] = ('head.',)) -> None:
        if not ((clip is None or clip > 0) and eps > 0):
            raise UserError(f'clip and eps of AdaptiveGradClipHook must be positive, but are {clip} and {eps}.')
        self.clip = clip
        self.eps = eps
        self.exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        self._handles: list[Any] = []
        self._excluded: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """Attaches itself to the optimizer, or to each of several."""
        if self.clip is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        named = list(model.named_parameters())
        for prefix in self.exclude:
            if not any(name.startswith(prefix) for name, _ in named):
                raise UserError(
                    f'AdaptiveGradClipHook: no parameter begins with exclude={prefix!r}; the names begin with '
                    f'{", ".join(sorted({name.split(".")[0] for name, _ in named}))}.'
                )
        self._excluded = {id(parameter) for name, parameter in named if name.startswith(self.exclude)}
        self._detach()
        wrapper = runner.optim_wrapper
        wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        self._handles = [each.optimizer.register_step_pre_hook(self._before_step) for each in wrappers]

    def after_train(self, runner: Runner) -> None:
        """Leaves the optimizer as it was."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before_step(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        # Fused optimizers take the loss scale off themselves, later than this.
        scale = getattr(optimizer, 'grad_scale', None)
        parameters = (p for group in optimizer.param_groups for p in group['params'] if id(p) not in self._excluded)
        adaptive_clip_grad_(parameters, self.clip, self.eps, 1.0 if scale is None else scale)
