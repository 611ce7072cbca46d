"""Weights cast together and padded."""

import pytest
import torch

from mmatconv.ops.cast_weights import Parts, cast_weights

PARTS = [Parts(2, 3), Parts(2, 3), Parts(), Parts(1, 5)]
SHAPES = [(10, 6), (10,), (3, 5), (3, 2)]


def make(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator)


def padded(weight, count, zeros):
    return torch.cat([part for half in weight.chunk(count) for part in (half, half.new_zeros(zeros, *half.shape[1:]))])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('parts', [PARTS, [Parts()] * 4])
def test_each_is_cast_and_padded(parts, dtype):
    weights = [make(*shape, seed=i).requires_grad_() for i, shape in enumerate(SHAPES)]
    results = cast_weights(weights, dtype, parts)
    expected = [padded(weight, *part).to(dtype) for weight, part in zip(weights, parts)]
    assert all(torch.equal(*pair) for pair in zip(results, expected))
    assert all(result.data_ptr() % 16 == 0 for result in results)
    grads = [make(*result.shape, seed=i).to(dtype) for i, result in enumerate(results)]
    found = torch.autograd.grad(results, weights, grads)
    assert all(torch.equal(*pair) for pair in zip(found, torch.autograd.grad(expected, weights, grads)))


def test_results_without_a_gradient():
    weights = [make(*shape, seed=i).requires_grad_() for i, shape in enumerate(SHAPES)]
    results = cast_weights(weights, torch.bfloat16, PARTS)
    grad = make(*results[2].shape).bfloat16()
    found = torch.autograd.grad(results[2], weights, grad, allow_unused=True)
    assert [g is None for g in found] == [True, True, False, True]
    assert torch.equal(found[2], grad.float())


def test_gradients_of_gradients():
    weights = [make(*shape, seed=i).double().requires_grad_() for i, shape in enumerate(SHAPES)]
    assert torch.autograd.gradgradcheck(lambda *w: [r**2 for r in cast_weights(w, torch.float64, PARTS)], weights)
