"""Numerical agreement, checked before anything is timed: candidates that claim to be equal must be equal."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmatconv.analysis.benchmark.case import Candidate, Case
from mmatconv.analysis.benchmark.runs import Run, deterministic
from mmatconv.errors import UserError

# In float32: largest error of a tensor, as a share of its root mean square, after up to 40 blocks and back.
TOLERANCE = 1e-4
# For gradients in models with ReLU: of two inputs that differ by a rounding error one may fall below zero.
KINKS = 2e-2
# A tensor far smaller than the largest one (the gradient of a bias in front of a norm) holds rounding errors only.
SMALLEST = 1e-3
KINDS = ('output', 'gradient')
Results = Mapping[str, Tensor]


def check_agreement(case: Case, runs: Mapping[str, Run]) -> dict[str, float]:
    """Compare the outputs, and beyond forward all gradients, of candidates that claim to be equal.

    In float32 the error may be ``TOLERANCE``. In half precision both are compared with the original in float32, and
    the error may be twice that of the original in half precision (flash-attention's rule), plus one rounding of the
    dtype and ``TOLERANCE``.

    Args:
        case: The case.
        runs: Its candidates by name.

    Returns:
        The error of each candidate that has an ``equal_to``.

    Raises:
        UserError: Candidates disagree.
    """
    errors = {}
    truths: dict[str, tuple[Results, dict[str, float]]] = {}
    for candidate in case.candidates:
        if candidate.equal_to is None or candidate.name not in runs or candidate.equal_to not in runs:
            continue
        original = next(other for other in case.candidates if other.name == candidate.equal_to)
        if original.name not in truths:
            truths[original.name] = _truth(original, case, runs[original.name])
        truth, allowed = truths[original.name]
        found = results(runs[candidate.name])
        for kind in KINDS:
            error = largest_error(found, truth, kind)
            if not error <= allowed[kind]:
                raise UserError(
                    f"'{candidate.name}' and '{original.name}' of {case.title} differ by {error:.1e} in {kind}s "
                    f'where {allowed[kind]:.1e} is allowed; no speed is reported on wrong results'
                )
            errors[candidate.name] = max(error, errors.get(candidate.name, 0.0))
    return errors


def results(run: Run) -> Results:
    """Outputs by position and, beyond forward, gradients by name."""
    with deterministic(run.module):
        if run.mode == 'forward':
            with torch.inference_mode():
                return {f'output {i}': output.float() for i, output in enumerate(run.outputs())}
        outputs = run.backward()
    found = {f'output {i}': output.detach().float() for i, output in enumerate(outputs)}
    inputs = {f'input {i}': x for i, x in enumerate(run.inputs)}
    for name, tensor in {**inputs, **run.parameters}.items():
        if tensor.grad is not None:
            found[f'gradient of {name}'] = tensor.grad.float()
    run.drop_gradients()
    return found


def largest_error(found: Results, truth: Results, kind: str) -> float:
    """Root mean square of the difference over that of the truth, of the worst tensor; inf if one is missing.

    Args:
        found: Results to be judged.
        truth: What they should be.
        kind: 'output' or 'gradient'.
    """
    expected = {name: tensor for name, tensor in truth.items() if name.startswith(kind)}
    if set(expected) != {name for name in found if name.startswith(kind)}:
        return float('inf')
    size = {name: _rms(tensor) for name, tensor in expected.items()}
    floor = max(SMALLEST * max(size.values(), default=0.0), 1e-30)
    worst = 0.0
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            return float('inf')
        error = _rms(found[name] - tensor) / max(size[name], floor)
        worst = max(worst, float('inf') if math.isnan(error) else error)
    return worst


def _rms(tensor: Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def _truth(original: Candidate, case: Case, run: Run) -> tuple[Results, dict[str, float]]:
    """What the original computes in float32, and the errors that are allowed."""
    allowed = dict(output=TOLERANCE, gradient=KINKS if case.has_kinks else TOLERANCE)
    narrow = results(run)
    if case.setting.dtype == 'float32':
        return narrow, allowed
    function = original.function
    wide = replace(
        original,
        function=copy.deepcopy(function).float() if isinstance(function, nn.Module) else function,
        inputs=tuple(x.detach().float() for x in original.inputs),
    )
    setting = replace(case.setting, dtype='float32', compiled=False)
    full = Run(wide, replace(case, setting=setting, candidates=[wide]))
    if run.gradients is not None:
        # As they were rounded to the dtype.
        full.gradients = [gradient.float() for gradient in run.gradients]
    truth = results(full)
    rounding = torch.finfo(run.dtype).eps
    return truth, {kind: 2 * largest_error(narrow, truth, kind) + rounding + allowed[kind] for kind in KINDS}
