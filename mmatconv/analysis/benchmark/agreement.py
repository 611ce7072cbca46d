"""Numerical agreement, checked before anything is timed: candidates that claim to be equal must be equal."""

import copy
import math
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmatconv.analysis.benchmark.case import Candidate, Case
from mmatconv.analysis.benchmark.runs import Run, without_dropout
from mmatconv.errors import UserError

# In float32: error of a tensor, as a share of its root mean square, after up to 40 blocks and back.
TOLERANCE = 1e-4
# For gradients in models with ReLU: of two inputs that differ by a rounding error one may fall below zero.
KINKS = 2e-2
# In half precision: how many times the error of the original (flash-attention's rule for its own tests).
FACTOR = 2
# A tensor far smaller than the largest one (the gradient of a bias in front of a norm) holds rounding errors only.
SMALLEST = 1e-3
KINDS = ('output', 'gradient')
Results = Mapping[str, Tensor]


def check_agreement(case: Case, runs: Mapping[str, Run]) -> dict[str, float]:
    """Compare the outputs, and beyond forward all gradients, of candidates that claim to be equal.

    In float32 the error of a tensor may be ``TOLERANCE``. In half precision both are compared with the original in
    float32, tensor by tensor: an error may be twice that of the original in the same tensor, or twice the median of
    the original's errors where that is larger (a sum over few elements is exact by chance), plus one rounding of the
    dtype and ``TOLERANCE``. A tensor in which the original itself is far off does not excuse the others. TF32 is off
    in all of it.

    Args:
        case: The case.
        runs: Its candidates by name.

    Returns:
        The largest error of each candidate that has an ``equal_to``.

    Raises:
        UserError: Candidates disagree.
    """
    largest = {}
    truths: dict[str, tuple[Results, dict[str, float]]] = {}
    with without_tf32():
        for candidate in case.candidates:
            if candidate.equal_to is None or candidate.name not in runs or candidate.equal_to not in runs:
                continue
            original = next(other for other in case.candidates if other.name == candidate.equal_to)
            if original.name not in truths:
                truths[original.name] = _truth(original, case, runs[original.name])
            truth, allowed = truths[original.name]
            found = errors(results(runs[candidate.name]), truth)
            # Outputs first: wrong gradients mostly follow from them.
            for name in sorted(found, key=lambda name: name.startswith('gradient')):
                if not found[name] <= allowed.get(name, 0.0):
                    raise UserError(
                        f"'{candidate.name}' and '{original.name}' of {case.title} differ by {found[name]:.1e} in "
                        f'{name} where {allowed.get(name, 0.0):.1e} is allowed; no speed is reported on wrong results'
                    )
            largest[candidate.name] = max(found.values())
    return largest


@contextmanager
def without_tf32() -> Iterator[None]:
    """float32 is float32 inside; on a GPU torch computes convolutions in TF32 (10 bits for 23) by default."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = False
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def results(run: Run) -> Results:
    """Outputs by position and, beyond forward, gradients by name."""
    with without_dropout(run.module):
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


def errors(found: Results, truth: Results) -> dict[str, float]:
    """Root mean square of the difference over that of the truth, tensor by tensor.

    Args:
        found: Results to be judged.
        truth: What they should be.

    Returns:
        The error of every tensor of either; inf where it is missing in one, has another shape, or is not a number.
    """
    size = {name: _rms(tensor) for name, tensor in truth.items()}
    floor = {
        kind: max(SMALLEST * max((size[name] for name in size if name.startswith(kind)), default=0.0), 1e-30)
        for kind in KINDS
    }
    result = dict.fromkeys({**truth, **found}, math.inf)
    for name, tensor in truth.items():
        if name in found and found[name].shape == tensor.shape:
            error = _rms(found[name] - tensor) / max(size[name], floor[name.split()[0]])
            result[name] = math.inf if math.isnan(error) else error
    return result


def _rms(tensor: Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def _truth(original: Candidate, case: Case, run: Run) -> tuple[Results, dict[str, float]]:
    """What the original computes in float32, and the error that is allowed in each tensor."""
    tolerance = dict(output=TOLERANCE, gradient=KINKS if case.has_kinks else TOLERANCE)
    own = results(run)
    if case.setting.dtype == 'float32':
        return own, {name: tolerance[name.split()[0]] for name in own}
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
    original_errors = errors(own, truth)
    rounding = torch.finfo(run.dtype).eps
    allowed = {}
    for kind in KINDS:
        of_kind = {name: error for name, error in original_errors.items() if name.startswith(kind)}
        typical = statistics.median(of_kind.values()) if of_kind else 0.0
        for name, error in of_kind.items():
            allowed[name] = FACTOR * max(error, typical) + rounding + tolerance[kind]
    return truth, allowed
