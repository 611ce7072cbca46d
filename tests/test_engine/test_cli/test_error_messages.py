"""Errors of other packages that a config or a data set causes become sentences; errors of code do not."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import mmatconv  # noqa: F401
from mmatconv.engine.cli.error_messages import error_message


def error_of(call, *arguments, **options):
    with pytest.raises(Exception) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.mark.parametrize('kind', ['AttNet', 'ATConvPVT', 'ATConvSwin'])
def test_unknown_option_lists_what_exists(kind):
    config = dict(default_scope='mmdet', model=dict(neck=[dict(type=f'mmatconv.{kind}', kernel_sizes=3)]))
    sentence = error_message(error_of(MODELS.build, config['model']['neck'][0]), config)
    own = 'arch, merging, token_mixer' if kind == 'ATConvSwin' else 'arch, token_mixer'
    assert sentence == (
        f"{kind} has no option 'kernel_sizes'; it has {own}, context_pool, in_channels, out_indices, frozen_stages, "
        'norm_eval, drop_path_rate, with_cp, out_norm, gap_before_final_norm, mask_padding, init, init_cfg'
    )


@MODELS.register_module(name='CallsWrongly')
class CallsWrongly(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        nn.Linear(1, width, widht=2)


def test_a_wrong_call_in_code_keeps_its_traceback():
    for options in (dict(width=2), dict(width=2, widht=2)):
        config = dict(model=dict(type='CallsWrongly', width=2), other=dict(type='AttNet', **options))
        assert error_message(error_of(MODELS.build, config['model']), config) is None
    assert error_message(error_of(nn.Linear, 1, 1, widht=2)) is None


def test_part_of_a_config_without_type():
    assert error_message(error_of(MODELS.build, dict(gap_before_final_norm=True))) == (
        '`cfg` or `default_args` must contain the key "type", but got {\'gap_before_final_norm\': True}; this part of '
        'the config has no type; name a complete config, not one that others inherit from'
    )


def test_weights_of_another_size():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 5))
    state = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Linear(4, 6)).state_dict()
    holder = nn.Module()
    holder.module = model
    state = {f'module.{name}': tensor for name, tensor in state.items()}
    assert error_message(error_of(holder.load_state_dict, state)) == (
        'the checkpoint belongs to another model: 0.weight is (2, 3, 1, 1) there and (4, 3, 1, 1) in this model '
        '(3 tensors differ in shape); check the config'
    )
    assert error_message(error_of(torch.zeros(2).view, 3)) is None


def test_classes_and_schedule_that_do_not_go_together():
    from mmengine.optim import CosineAnnealingLR
    from mmpretrain.evaluation import Accuracy
    from mmpretrain.models.losses import LabelSmoothLoss

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    assert error_message(error_of(CosineAnnealingLR, optimizer, T_max=5, begin=5, end=3)).startswith(
        'end should be larger than begin, but got begin=5, end=3; an entry of param_scheduler begins after the end'
    )
    loss = LabelSmoothLoss(label_smooth_val=0.1, mode='original')
    assert error_message(error_of(loss, torch.zeros(2, 2), torch.zeros(2, 3))).endswith(
        '; data_preprocessor.num_classes and model.head.num_classes must be equal'
    )
    scores = error_of(Accuracy.calculate, torch.zeros(2, 2), torch.zeros(2), topk=(1, 5))
    assert error_message(scores) == (
        'Top-5 accuracy is unavailable since the number of categories is 2; '
        "set val_evaluator.topk and test_evaluator.topk to '(1,)'"
    )
