"""What happens when the loss is not finite."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmatconv.engine.runner.checkpoint_files import last_finite
from mmatconv.errors import UserError

ACTIONS = ('stop', 'skip')
LOSS, GRADIENT = 'the loss is not finite', 'a gradient is not finite'


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stops training, or leaves out the step, when the loss or a gradient is NaN or infinite.

    It acts before the optimizer, so the weights stay finite, and on all processes if one meets it. With fp16's loss
    scale, overflows are expected from time to time: the scaler leaves those steps out and lowers the scale. They are
    counted as ``overflowed_steps``, and training stops if they do not end once the scale cannot fall further.

    Its cost is one pass over the gradients and one number read from the device before each step of the optimizer,
    where clipping reads one already, and with several processes the exchange of that number.

    Args:
        action: 'stop' ends training with a sentence; 'skip' leaves out the step, says so in the log, counts it as
            ``skipped_steps`` and restores the running statistics of norms. Default: 'stop'.
        max_skips: Steps left out in a row after which training stops all the same; with a loss scale, those at a scale
            of at most 1, or at one that does not change. Default: 20.

    Raises:
        UserError: an argument has another value; in training, the loss or a gradient is not finite.
    """

    # Before the losses of a step are taken into the log.
    priority = 'HIGHEST'

    def __init__(self, action: str = 'stop', max_skips: int = 20) -> None:
        if action not in ACTIONS:
            raise UserError(f'action of NonFiniteLossHook must be one of {", ".join(ACTIONS)}, but is {action!r}')
        if not (isinstance(max_skips, int) and max_skips >= 0):
            raise UserError(f'max_skips of NonFiniteLossHook must be a whole number from 0, but is {max_skips!r}')
        self.action = action
        self.max_skips = max_skips
        self.skipped = 0
        self.overflowed = 0
        self._in_a_row = 0
        self._skipped_now = False
        self._wrappers: list[OptimWrapper] = []
        self._statistics: list[tuple[Tensor, Tensor]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Puts itself before the steps of each optimizer."""
        self.skipped = runner.message_hub.get_info('skipped_steps', 0)
        self.overflowed = runner.message_hub.get_info('overflowed_steps', 0)
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        self._wrappers = [each for each in wrappers if isinstance(each, OptimWrapper)]
        for each in self._wrappers:
            _Guard(
                each,
                on_failure=lambda reason: self._on_failure(runner, reason),
                on_overflow=lambda reason, scale_fell: self._on_overflow(runner, reason, scale_fell),
                on_success=self._on_success,
            )

    def after_train(self, runner: Runner) -> None:
        """Leaves the optimizers as they were."""
        for each in self._wrappers:
            del each.update_params, each.step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps the running statistics, which a forward pass on NaN spoils."""
        self._skipped_now = False
        scaled = any(_scales_loss(wrapper) for wrapper in self._wrappers)
        if (self.action == 'skip' or scaled) and self._statistics is None:
            self._statistics = [(buffer, buffer.clone()) for buffer in _running_statistics(runner.model)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keeps the losses of a step that was left out from the averages in the log."""
        if self._skipped_now and outputs:
            outputs.clear()
        for name, count in (('skipped_steps', self.skipped), ('overflowed_steps', self.overflowed)):
            if count:
                runner.message_hub.update_scalar(f'train/{name}', count)
                runner.message_hub.update_info(name, count)

    def _on_success(self) -> None:
        self._in_a_row = 0
        self._statistics = None

    def _on_overflow(self, runner: Runner, reason: str, scale_fell: bool) -> None:
        where = f'{reason} at iteration {runner.iter + 1}'
        self.overflowed += 1
        self._in_a_row = 0 if scale_fell else self._in_a_row + 1
        if self._in_a_row > self.max_skips:
            raise UserError(
                f'{where}, as in the {self._in_a_row - 1} steps before it, and the loss scale cannot fall further; '
                f'{last_finite(runner.work_dir)}; lower the learning rate, look at the data, or train without --amp'
            )
        self._leave_out(loss_too=reason == LOSS)
        runner.logger.info(f'{where}: overflow, step left out by the loss scale ({self.overflowed} so far)')

    def _on_failure(self, runner: Runner, reason: str) -> None:
        where = f'{reason} at iteration {runner.iter + 1}'
        kept = last_finite(runner.work_dir)
        if self.action == 'stop':
            raise UserError(
                f'{where}, and training stopped before it reached the weights; {kept}; lower the learning rate, or '
                'skip such steps with --nan skip'
            )
        if self._in_a_row >= self.max_skips:
            raise UserError(
                f'{where}, after {self._in_a_row} skipped steps in a row; {kept}; lower the learning '
                'rate, and look at the data'
            )
        self._in_a_row += 1
        self.skipped += 1
        self._leave_out()
        runner.logger.warning(f'{where}: step skipped ({self.skipped} so far)')

    def _leave_out(self, loss_too: bool = True) -> None:
        self._skipped_now = loss_too
        for buffer, before in self._statistics or ():
            buffer.copy_(before)


class _Guard:
    """Stands before an optimizer wrapper's ``update_params`` and ``step``."""

    def __init__(
        self,
        wrapper: OptimWrapper,
        on_failure: Callable[[str], None],
        on_overflow: Callable[[str, bool], None],
        on_success: Callable[[], None],
    ) -> None:
        self.wrapper = wrapper
        self.on_failure, self.on_overflow, self.on_success = on_failure, on_overflow, on_success
        self._update_params, self._step = wrapper.update_params, wrapper.step
        self._loss_flag: Tensor | None = None
        wrapper.update_params, wrapper.step = self.update_params, self.step

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        # Accumulated gradients are those of several losses, so the flag stays up until the step.
        flag = (~torch.isfinite(loss.detach())).any().float()
        self._loss_flag = flag if self._loss_flag is None else torch.maximum(self._loss_flag, flag)
        self._update_params(loss, *args, **kwargs)

    def step(self, **kwargs: Any) -> None:
        flags = self._flags()
        self._loss_flag = None
        reason = LOSS if flags % 2 else GRADIENT if flags else ''
        if not reason:
            self._step(**kwargs)
            self.on_success()
        elif _scales_loss(self.wrapper):
            scaler = self.wrapper.loss_scaler
            before = scaler.get_scale()
            self._spoil_gradients()
            self._step(**kwargs)
            self.on_overflow(reason, 1 < scaler.get_scale() < before)
        else:
            self.on_failure(reason)

    # MMEngine's schedulers warn where the step they count, which this one calls, is not marked so.
    step._with_counter = True

    @torch.no_grad()
    def _spoil_gradients(self) -> None:
        """Makes the scaler of every process leave the step out: it looks at the gradients of its own process alone."""
        for gradient in self._gradients()[:1]:
            gradient.fill_(torch.inf)

    def _gradients(self) -> list[Tensor]:
        gradients = [p.grad for group in self.wrapper.optimizer.param_groups for p in group['params']]
        return [gradient for gradient in gradients if gradient is not None and not gradient.is_sparse]

    @torch.no_grad()
    def _flags(self) -> int:
        """1 if a loss of any process is not finite, plus 2 if a gradient of any process is not."""
        gradients = self._gradients()
        device = self._loss_flag.device if self._loss_flag is not None else gradients[0].device if gradients else 'cpu'
        flags = torch.zeros(2, device=device)
        if self._loss_flag is not None:
            flags[0] = self._loss_flag
        if gradients:
            # The Euclidean norm: five times as fast as the largest value, on the CPU.
            norms = torch.stack([norm.to(device) for norm in torch._foreach_norm(gradients)])
            flags[1] = (~torch.isfinite(norms)).any().float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        loss, gradient = flags.tolist()
        return int(loss) + 2 * int(gradient)


def _scales_loss(wrapper: OptimWrapper) -> bool:
    """Whether fp16's loss scale leaves out steps that overflow."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def check_weights(runner: Runner) -> None:
    """Looks at the weights before they are written, so that the last checkpoint is always one to resume from.

    Raises:
        UserError: a weight is NaN or infinite.
    """
    for name, parameter in runner.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(
                f"weight '{name.removeprefix('module.')}' is not finite after iteration {runner.iter + 1}, and was not "
                f'written; {last_finite(runner.work_dir)}; lower the learning rate'
            )


def _running_statistics(model: nn.Module) -> list[Tensor]:
    return [b for m in model.modules() if isinstance(m, _NormBase) for b in m.buffers(recurse=False)]
