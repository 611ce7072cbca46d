"""Table IX: ablations of AttNet-T2."""

from functools import partial

from mmatconv.analysis.paper.figures import Row, Table
from mmatconv.analysis.paper.models import attnet, counted

NEAR = 'unknown; the other four rows are exact'
UNKNOWN = 'unknown; the parameters are exact'
INFERRED = 'the form is inferred from the count'


def _row(model: str, params: str, flops: str, reason: str = '', **mixer: object) -> Row:
    backbone = attnet('T2', token_mixer=mixer) if mixer else attnet('T2')
    reasons = dict(flops=reason) if reason else {}
    return Row(model, dict(params=params, flops=flops), partial(counted, 'classifier', backbone), reasons)


def _kernels(params: str, flops: str, *sizes: int, reason: str = '') -> Row:
    name = f'[{", ".join(map(str, sizes))}]' if len(set(sizes)) > 1 else f'{sizes[0]} x {sizes[0]}'
    return _row(f'ATConv {name}', params, flops, reason, type='ATConv', kernel_size=sizes)


def _step(model: str, params: str, flops: str, step: str, reason: str = '') -> Row:
    return _row(model, params, flops, reason, type='ATConvStep', step=step)


TABLE_IX_A = Table(
    'IX(a)',
    'kernel sizes of ATConv in AttNet-T2, 224 x 224; FLOPs are fvcore totals',
    (
        _row('ATConv 3 x 3', '27.01', '5.11'),
        _kernels('27.02', '5.15', 5, 5, 5, 5, reason=NEAR),
        _kernels('27.07', '5.20', 7, 7, 7, 7),
        _kernels('27.02', '5.14', 7, 5, 3, 3),
        _kernels('27.03', '5.16', 7, 5, 5, 3),
        _kernels('27.03', '5.17', 7, 7, 5, 3, reason=NEAR),
    ),
)

TABLE_IX_B = Table(
    'IX(b)',
    'other token mixers in AttNet-T2, 224 x 224; FLOPs are fvcore totals',
    (
        _row('ATConv 3 x 3', '27.01', '5.11'),
        _row('3 x 3 Conv', '40.04', '7.35', type='Conv', kernel_size=3),
        _row('3 x 3 DWConv', '20.52', '3.98', type='DepthwiseConv', kernel_size=3),
        _row('5 x 5 DWConv', '20.63', '4.01', type='DepthwiseConv', kernel_size=5),
        _row('7 x 7 DWConv', '20.79', '4.06', type='DepthwiseConv', kernel_size=7),
        _row('Hydra Attention', '29.18', '5.47', INFERRED, type='HydraAttention'),
        _row(
            'InLine Attention',
            '31.63',
            '5.63',
            f'{INFERRED}, with the heads 2, 4, 8, 16',
            type='InLineAttention',
            num_heads=(2, 4, 8, 16),
        ),
        _row(
            'RankAug Attention',
            '31.54',
            '6.11',
            'undetermined: with the heads 2, 2, 4, 8, which no model is known to have; 6.02 with 32 channels a head',
            type='RankAugAttention',
            num_heads=(2, 2, 4, 8),
        ),
    ),
)

TABLE_IX_C = Table(
    'IX(c)',
    'from depthwise convolution to ATConv in AttNet-T2, 224 x 224; FLOPs are fvcore totals',
    (
        _row('3 x 3 DWConv', '20.52', '3.98', type='DepthwiseConv', kernel_size=3),
        _step('+ Kernel Generator', '22.64', '4.37', 'kernel_generator', UNKNOWN),
        _step('+ Last Linear Proj.', '24.82', '4.74', 'output_projection', UNKNOWN),
        _step('+ Value Proj.', '27.00', '5.11', 'value_projection'),
        _step('+ Softmax on K', '27.00', '5.11', 'softmax'),
        _step('-> Kernel Diff. on K', '27.00', '5.11', 'kernel_difference'),
        _step('-> Diff. Modulation on K', '27.01', '5.11', 'differential_modulation'),
    ),
)
