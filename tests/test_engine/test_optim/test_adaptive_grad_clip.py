"""AdaptiveGradClipHook against the formula of arXiv 2102.06171, written out unit by unit in float64."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch import nn

from mmatconv.engine.optim.adaptive_grad_clip import AdaptiveGradClipHook, adaptive_clip_grad_, unitwise_norm
from mmatconv.errors import UserError

CLIP, EPS = 0.01, 1e-3


class Classifier(nn.Module):
    """Convolution, vector at zero, scalar and head, so that every kind of unit is there."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gamma = nn.Parameter(torch.zeros(4))
        self.scalar = nn.Parameter(torch.tensor(0.5))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.conv(x).mean(dim=(2, 3)) * (1 + self.gamma) * self.scalar)


def by_formula(weight, grad):
    """Clips row by row, without a norm of torch's."""
    units = [(weight, grad)] if weight.ndim < 2 else list(zip(weight, grad))
    clipped = []
    for w, g in units:
        norm_w, norm_g = ((t.double() ** 2).sum().item() ** 0.5 for t in (w, g))
        limit = CLIP * max(norm_w, EPS)
        clipped.append(g * (limit / norm_g) if norm_g > limit else g)
    return clipped[0] if weight.ndim < 2 else torch.stack(clipped)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier().double()


def gradients(model, count=1):
    """The gradient of each parameter, averaged over `count` batches, and the batches."""
    torch.manual_seed(1)
    batches = [torch.randn(2, 3, 8, 8, dtype=torch.float64) * 30 for _ in range(count)]
    loss = sum(model(x).square().sum() for x in batches) / count
    found = dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, list(model.parameters()))))
    return found, batches


def expected_steps(model, grads):
    return {
        name: g if name.startswith('head.') else by_formula(model.get_parameter(name), g) for name, g in grads.items()
    }


def attach(model, wrapper, **options):
    hook = AdaptiveGradClipHook(**{'clip': CLIP, 'eps': EPS, **options})
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    hook.before_train(runner)
    return hook, runner


def steps_of(model, before):
    """What SGD with a learning rate of 1 took from each parameter: the gradient it saw."""
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


def snapshot(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-13, msg=name)


def test_every_unit_is_clipped_by_the_formula(model):
    grads, _ = gradients(model)
    for name, p in model.named_parameters():
        # One of the rows stays within its limit.
        p.grad = grads[name].clone()
        if p.ndim == 4:
            p.grad[1] = p[1].detach() * CLIP * 0.5
    expected = {name: by_formula(p.detach(), p.grad) for name, p in model.named_parameters()}
    assert torch.equal(expected['conv.weight'][1], model.conv.weight.grad[1])
    assert not torch.equal(expected['conv.weight'][0], model.conv.weight.grad[0])
    adaptive_clip_grad_(model.parameters(), CLIP, EPS)
    assert_close({name: p.grad for name, p in model.named_parameters()}, expected)
    assert unitwise_norm(model.gamma.grad).item() == pytest.approx(CLIP * EPS)


def test_parameters_without_a_gradient_and_zero_gradients_stay():
    silent, zero = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    zero.grad = torch.zeros(2, 2)
    adaptive_clip_grad_([silent, zero])
    assert silent.grad is None and torch.equal(zero.grad, torch.zeros(2, 2))


def test_optimizer_sees_clipped_gradients_and_the_head_is_left_alone(model):
    grads, (batch,) = gradients(model)
    expected, before = expected_steps(model, grads), snapshot(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    attach(model, wrapper)
    wrapper.update_params(model(batch).square().sum())
    assert_close(steps_of(model, before), expected)
    assert torch.equal(expected['head.weight'], grads['head.weight'])


def test_accumulated_gradients_are_clipped_once_as_their_mean(model):
    grads, batches = gradients(model, count=2)
    expected, before = expected_steps(model, grads), snapshot(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    attach(model, wrapper)
    wrapper.update_params(model(batches[0]).square().sum())
    assert_close(steps_of(model, before), {name: torch.zeros_like(g) for name, g in grads.items()})
    wrapper.update_params(model(batches[1]).square().sum())
    assert_close(steps_of(model, before), expected)


@pytest.mark.parametrize('fused', [False, True])
def test_loss_scale_makes_no_difference(model, fused):
    """A fused optimizer takes the scale off itself, after the hook."""
    model.float()
    torch.manual_seed(1)
    batch = torch.randn(2, 3, 8, 8) * 30
    model(batch).square().sum().backward()
    expected, before = expected_steps(model, {n: p.grad.clone() for n, p in model.named_parameters()}), snapshot(model)
    model.zero_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=fused)
    attach(model, OptimWrapper(optimizer))
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)
    scaler.scale(model(batch).square().sum()).backward()
    scaler.step(optimizer)
    steps = steps_of(model, before)
    for name in expected:
        torch.testing.assert_close(steps[name], expected[name], rtol=1e-4, atol=1e-6, msg=name)
    # An overflow is skipped as without the hook.
    scaler.update()
    before = snapshot(model)
    optimizer.zero_grad()
    scaler.scale(model(batch * 1e30).square().sum()).backward()
    scaler.step(optimizer)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_attached_once_and_gone_after_training(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    state = optimizer.state_dict()
    hook, runner = attach(model, OptimWrapper(optimizer))
    hook.before_train(runner)
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    assert optimizer.state_dict() == state
    hook.after_train(runner)
    assert len(optimizer._optimizer_step_pre_hooks) == 0
    grads, (batch,) = gradients(model)
    before = snapshot(model)
    runner.optim_wrapper.update_params(model(batch).square().sum())
    assert_close(steps_of(model, before), grads)


def test_several_optimizers(model):
    grads, (batch,) = gradients(model)
    expected, before = expected_steps(model, grads), snapshot(model)
    first = OptimWrapper(torch.optim.SGD(model.conv.parameters(), lr=1.0))
    second = OptimWrapper(torch.optim.SGD([model.gamma, model.scalar, *model.head.parameters()], lr=1.0))
    attach(model, OptimWrapperDict(first=first, second=second))
    model(batch).square().sum().backward()
    first.step()
    second.step()
    assert_close(steps_of(model, before), expected)


def test_without_a_clip_nothing_is_clipped_and_no_exclusion_clips_the_head(model):
    grads, (batch,) = gradients(model)
    for options, expected in (
        (dict(clip=None), grads),
        (dict(exclude=()), {name: by_formula(p.detach(), grads[name]) for name, p in model.named_parameters()}),
    ):
        copy = Classifier().double()
        copy.load_state_dict(model.state_dict())
        before = snapshot(copy)
        wrapper = OptimWrapper(torch.optim.SGD(copy.parameters(), lr=1.0))
        attach(copy, wrapper, **options)
        wrapper.update_params(copy(batch).square().sum())
        assert_close(steps_of(copy, before), expected)


def test_found_by_name_from_any_package():
    name = 'mmatconv.AdaptiveGradClipHook'
    assert isinstance(HOOKS.build(dict(type=name, clip=0.02)), AdaptiveGradClipHook)


def test_mistakes_are_said_in_a_sentence(model):
    with pytest.raises(UserError, match=r'must be positive, but are 0 and 0\.001'):
        AdaptiveGradClipHook(clip=0)
    with pytest.raises(UserError, match=r"exclude='fc.'; the names begin with conv, gamma, head, scalar"):
        attach(model, OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)), exclude='fc.')
