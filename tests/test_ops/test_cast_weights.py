"""Weights cast together and padded."""

import pytest
import torch

from mmatconv.ops.cast_weights import Weight, cast_weights

# Shape, gain or not, parts, zeros behind each part and behind the columns.
KINDS = [
    ((10, 6, 1, 1), False, 2, 3, 0),
    ((10,), False, 2, 3, 0),
    ((3, 5), False, 1, 0, 0),
    ((4, 7, 1, 1), True, 1, 0, 1),
    ((4, 8), True, 1, 0, 0),
    ((2, 5), False, 1, 0, 3),
]


def make(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator)


def weights_of(dtype=torch.float32):
    """Weights of all kinds, and their tensors."""
    tensors = [
        (make(*shape, seed=i).to(dtype).requires_grad_(), make(shape[1]).to(dtype).requires_grad_() if gain else None)
        for i, (shape, gain, *_) in enumerate(KINDS)
    ]
    weights = [Weight(*pair, *kind[2:]) for pair, kind in zip(tensors, KINDS)]
    return weights, [x for pair in tensors for x in pair if x is not None]


def padded(weight):
    values, gain, parts, rows, columns = weight
    values = values.view(values.shape[:2])
    values = values if gain is None else values * gain
    if columns:
        values = torch.cat([values, values.new_zeros(len(values), columns)], dim=1)
    return torch.cat([x for part in values.chunk(parts) for x in (part, part.new_zeros(rows, *part.shape[1:]))])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_each_is_cast_and_padded(dtype):
    weights, tensors = weights_of()
    results = cast_weights(weights, dtype)
    expected = [padded(weight).to(dtype) for weight in weights]
    assert all(torch.equal(*pair) for pair in zip(results, expected))
    assert all(result.data_ptr() % 16 == 0 for result in results)
    grads = [make(*result.shape, seed=i).to(dtype) for i, result in enumerate(results)]
    found = torch.autograd.grad(results, tensors, grads)
    for one, other in zip(found, torch.autograd.grad(expected, tensors, grads)):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other)


def test_results_without_a_gradient():
    weights, tensors = weights_of()
    results = cast_weights(weights, torch.bfloat16)
    grad = make(*results[2].shape).bfloat16()
    found = torch.autograd.grad(results[2], tensors, grad, allow_unused=True)
    assert [i for i, g in enumerate(found) if g is not None] == [2]
    assert torch.equal(found[2], grad.float())


def test_no_gradient_is_computed_for_frozen_weights():
    weights, tensors = weights_of()
    for tensor in tensors[:4]:
        tensor.requires_grad_(False)
    assert [r.requires_grad for r in cast_weights(weights, torch.bfloat16)] == [False, False, False, True, True, True]


def ones_for(weights):
    return [torch.ones_like(padded(weight)) for weight in weights]


def test_gradients_of_gradients():
    weights, tensors = weights_of(torch.float64)

    def squares(*tensors):
        left = iter(tensors)
        own = [w._replace(values=next(left), gain=None if w.gain is None else next(left)) for w in weights]
        return [result**2 for result in cast_weights(own, torch.float64)]

    # gradgradcheck compares gradients with their own derivatives: whether they are the right ones is asked here.
    expected = torch.autograd.grad([padded(weight) ** 2 for weight in weights], tensors, ones_for(weights))
    found = torch.autograd.grad(squares(*tensors), tensors, ones_for(weights), create_graph=True)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(squares, tensors)
    assert torch.autograd.gradgradcheck(squares, tensors)
