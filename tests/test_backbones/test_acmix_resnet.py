"""ACmix-ResNet: the shape of ResNet, the authors' parameters, its own initialisation."""

import pytest
import torch

from mmatconv import ACmixResNet, UserError


def narrow(**options):
    return ACmixResNet(dict(depths=[1, 2, 1, 1], dims=[16, 32, 48, 64]), **options)


@pytest.mark.parametrize(('arch', 'parameters'), [('26', 10_487_816), ('38', 14_410_896), ('50', 18_333_976)])
def test_parameters_are_those_of_the_authors_code(arch, parameters):
    with torch.device('meta'):
        model = ACmixResNet(arch, gap_before_final_norm=True)
        head = torch.nn.Linear(2048, 1000)
    assert sum(p.numel() for part in (model, head) for p in part.parameters()) == parameters


def test_maps_have_the_sizes_of_resnet_and_every_parameter_a_gradient():
    model = narrow()
    maps = model(torch.randn(2, 3, 50, 77))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 13, 20), (2, 32, 7, 10), (2, 48, 4, 5), (2, 64, 2, 3)]
    sum(x.square().sum() for x in maps).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert narrow(gap_before_final_norm=True)(torch.randn(2, 3, 32, 32))[0].shape == (2, 64)


def test_a_stride_is_in_the_first_block_of_a_stage():
    model = narrow()
    assert [[block.conv2.stride for block in stage] for stage in model.stages] == [[1], [2, 1], [2], [2]]


def test_convolutions_start_as_he_has_them_and_shifts_as_shifts():
    torch.manual_seed(0)
    block = ACmixResNet(dict(depths=[1], dims=[512])).stages[0][0]
    assert block.conv3.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert block.conv2.dep_conv.weight.sum() == 9 * 128


def test_freezing_and_norm_eval_are_those_of_every_backbone():
    model = narrow(frozen_stages=1, norm_eval=True).train()
    trained = {name.split('.')[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'1', '2', '3'}
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize('option', [dict(mask_padding=True), dict(token_mixer=dict(type='ATConv'))])
def test_options_it_does_not_have_are_refused(option):
    with pytest.raises(UserError, match=f'ACmixResNet has no option {next(iter(option))}; leave it out'):
        narrow(**option)
