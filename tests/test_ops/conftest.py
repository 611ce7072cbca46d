"""Cases shared by the tests of the operator's paths."""

import os

import pytest
import torch

# Triton decides when it is imported whether kernels are interpreted. Without a GPU test_triton_interpreted.py runs
# these tests in processes of their own.
if not torch.cuda.is_available() and os.environ.get('TRITON_INTERPRET') != '1':
    kinds = ('cast', 'context', 'gated', 'padded', 'residual')
    collect_ignore = ['test_triton.py', *(f'test_triton_{kind}.py' for kind in kinds)]


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    """A GPU compares float32 with float64: TF32 has 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.fixture
def device():
    """Where the Triton kernels run: the GPU where there is one, else the CPU, interpreted."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture
def forced(monkeypatch):
    """Triton or an error, also for the steps of a block."""
    monkeypatch.setenv('MMATCONV_OP', 'triton')


@pytest.fixture
def poisoned(monkeypatch):
    """Every empty tensor is full of NaN, so that an element nobody writes shows."""
    empty = torch.empty

    def nan_empty(*args, **kwargs):
        tensor = empty(*args, **kwargs)
        return tensor.fill_(float('nan')) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch, 'empty', nan_empty)


@pytest.fixture
def exact():
    """Output and gradients in float64 from the definition: (input, kernel, gradient of the output) -> three tensors."""
    from mmatconv.ops import reference

    def compute(x, kernel, grad_output):
        x, kernel = (t.detach().cpu().double().requires_grad_() for t in (x, kernel))
        output = reference(x, kernel)
        return output.detach(), *torch.autograd.grad(output, (x, kernel), grad_output.cpu().double())

    return compute


@pytest.fixture
def assert_exact():
    """Each tensor within ``units`` in the last place of its largest value from the exact one, per name."""

    def check(actual, expected, units, names=('output', 'grad input', 'grad kernel')):
        for name, a, e in zip(names, actual, expected):
            if a is None:
                continue
            error = ((a.detach().cpu().double() - e).abs().max() / e.abs().max().clamp_min(1e-30)).item()
            limit = units * torch.finfo(a.dtype).eps
            assert error <= limit, f'{name}: relative error {error:.2e}, allowed {limit:.2e}'

    return check
