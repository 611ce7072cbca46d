"""A candidate as a callable to time: forward, forward and backward, or a whole training step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mmatconv.analysis.benchmark.case import DTYPES, Candidate, Case

MODES = ('forward', 'backward', 'step')


def leaves(output: object) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for part in parts for tensor in leaves(part)]


class Run:
    """One candidate in the mode of its case; calling it is what is timed.

    - 'forward': evaluation mode, inference_mode;
    - 'backward': training mode, forward and backward with given random gradients of the outputs, gradients dropped;
    - 'step': the same and a step of AdamW. Its learning rate is 0, which costs what any other costs and keeps the
      weights, so that every repetition computes on the same numbers. With float16 on a GPU losses are scaled.

    Compiled candidates run without stochastic depth and dropout.

    Args:
        candidate: Its module is put into the mode.
        case: Gives mode, dtype and device.
    """

    def __init__(self, candidate: Candidate, case: Case) -> None:
        setting = case.setting
        self.mode = 'forward' if candidate.forward_only else setting.mode
        self.function = candidate.function
        self.inputs = candidate.inputs
        self.device, self.dtype = setting.device, DTYPES[setting.dtype]
        self.autocast = case.autocast and self.dtype != torch.float32
        self.module = self.function if isinstance(self.function, nn.Module) else None
        self.parameters = dict(self.module.named_parameters()) if self.module else {}
        if self.module:
            self.module.train(self.mode != 'forward')
        if self.mode != 'forward':
            for x in self.inputs[: candidate.differentiable]:
                x.requires_grad_()
        if setting.compiled and not candidate.forward_only:
            # The rates are constants of a compiled graph: switched off for the comparison only, they would cost a
            # second compilation.
            switch_dropout_off(self.module)
            self.function = torch.compile(self.function)
        self.gradients: list[Tensor] | None = None
        self.optimizer = self.scaler = None
        if self.mode == 'step':
            trained = [p for p in self.parameters.values() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.05)
            scaled = self.autocast and self.dtype == torch.float16 and self.device == 'cuda'
            self.scaler = torch.amp.GradScaler(self.device, enabled=scaled)

    def __call__(self) -> None:
        if self.mode == 'forward':
            with torch.inference_mode():
                self.outputs()
            return
        self.backward()
        if self.optimizer is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.drop_gradients()

    def outputs(self) -> list[Tensor]:
        """The tensors it returns."""
        with torch.autocast(self.device, self.dtype, enabled=self.autocast):
            return leaves(self.function(*self.inputs))

    def backward(self) -> list[Tensor]:
        """Forward and backward; gradients stay in ``grad`` of inputs and parameters."""
        outputs = [tensor for tensor in self.outputs() if tensor.requires_grad]
        if self.gradients is None:
            generator = torch.Generator().manual_seed(1)
            self.gradients = [_gradient_like(tensor, generator) for tensor in outputs]
        gradients = self.gradients
        if self.scaler is not None and self.scaler.is_enabled():
            gradients = [self.scaler.scale(gradient) for gradient in gradients]
        torch.autograd.backward(outputs, gradients)
        return outputs

    def drop_gradients(self) -> None:
        for tensor in (*self.inputs, *self.parameters.values()):
            tensor.grad = None

    def held(self) -> Iterator[Tensor]:
        """Every tensor it keeps between calls."""
        yield from self.inputs
        yield from self.parameters.values()
        yield from self.module.buffers() if self.module else ()
        yield from self.gradients or ()
        for state in self.optimizer.state.values() if self.optimizer else ():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def _gradient_like(output: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty_like(output).copy_(torch.randn(output.shape, generator=generator))


@contextmanager
def without_dropout(module: nn.Module | None) -> Iterator[None]:
    """Stochastic depth and dropout off, for results that can be compared."""
    changed = switch_dropout_off(module)
    try:
        yield
    finally:
        for layer, name, rate in changed:
            setattr(layer, name, rate)


def switch_dropout_off(module: nn.Module | None) -> list[tuple[nn.Module, str, float]]:
    """Set the rates of stochastic depth and dropout to 0; returns (layer, attribute, former rate)."""
    changed = []
    for layer in module.modules() if module else ():
        name = 'p' if isinstance(layer, _DropoutNd) else 'rate' if type(layer).__name__ == 'DropPath' else None
        if name and hasattr(layer, name):
            changed.append((layer, name, getattr(layer, name)))
            setattr(layer, name, 0.0)
    return changed
