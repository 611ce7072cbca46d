"""Tables I, II and III: image classification."""

from collections.abc import Mapping
from functools import partial

from mmatconv.analysis.paper.figures import Row, Table
from mmatconv.analysis.paper.models import atconv_pvt, atconv_swin, attnet, counted, multiply_adds, pvt, pvt_v2, swin

LARGE = (384, 384)
PVT_NOTE = {'flops': 'multiply-adds, as PVT publishes them'}
SWIN_384 = 'the count is that of 224 pixels, and nothing in the definition depends on the size'


def attnet_row(arch: str, params: str, flops: str, reasons: Mapping[str, str] | None = None) -> Row:
    """A row of an AttNet classifier."""
    return Row(
        f'AttNet-{arch}',
        dict(params=params, flops=flops),
        partial(counted, 'classifier', attnet(arch)),
        reasons or {},
    )


ATTNET_ROWS = (
    attnet_row('T1', '13.7', '2.4'),
    attnet_row('T2', '27.0', '5.1'),
    attnet_row('T3', '49.1', '9.4'),
    attnet_row('T4', '87.3', '16.7'),
)


def _row(model: str, params: str, flops: str, /, *args: object, **reasons: str) -> Row:
    return Row(model, dict(params=params, flops=flops), partial(counted, 'classifier', *args), reasons)


def _pvt(model: str, arch: str, params: str, flops: str, /, **reasons: str) -> Row:
    count = partial(counted, 'classifier', pvt(arch), flops=multiply_adds)
    return Row(model, dict(params=params, flops=flops), count, PVT_NOTE | reasons)


TABLE_I = Table('I', 'AttNet at 224 x 224; FLOPs are fvcore totals', ATTNET_ROWS)

TABLE_II = Table(
    'II',
    'drop-in replacement of attention, at 224 x 224 unless 384 is named; FLOPs are fvcore totals',
    (
        _pvt('PVT-T', 'tiny', '13.2', '1.9'),
        _row('ATConv-PVT-T', '10.2', '1.8', atconv_pvt('tiny')),
        _pvt('PVT-S', 'small', '24.5', '3.8'),
        _row('ATConv-PVT-S', '18.3', '3.5', atconv_pvt('small')),
        _pvt('PVT-M', 'medium', '44.2', '6.7'),
        _row(
            'ATConv-PVT-M',
            '31.9',
            '6.1',
            atconv_pvt('medium'),
            flops='undetermined: the definition that gives the parameters of all four sizes and the FLOPs of the '
            'other three gives more here',
        ),
        _pvt('PVT-L', 'large', '61.8', '9.8', params="PVT's own repository prints 61.4, which the count gives"),
        _row('ATConv-PVT-L', '43.3', '9.2', atconv_pvt('large')),
        _row('Swin-T', '28.3', '4.5', swin('tiny')),
        _row('ATConv-Swin-T', '28.0', '4.2', atconv_swin('tiny')),
        _row('Swin-S', '49.6', '8.8', swin('small')),
        _row('ATConv-Swin-S', '47.6', '8.1', atconv_swin('small')),
        _row('Swin-B', '87.8', '15.5', swin('base')),
        _row('ATConv-Swin-B', '84.2', '14.3', atconv_swin('base')),
        _row('Swin-B-384', '87.9', '47.2', swin('base', window_size=12), LARGE),
        _row('ATConv-Swin-B-384', '84.3', '42.1', atconv_swin('base'), LARGE, params=SWIN_384),
    ),
)

TABLE_III = Table(
    'III',
    'ImageNet-1K at 224 x 224, the rows that mmdet or this project has; FLOPs are fvcore totals',
    (
        _row(
            'PVTv2-B1',
            '13.1',
            '2.1',
            pvt_v2('b1'),
            params="PVTv2's own repository prints 14.0, which the count gives",
        ),
        ATTNET_ROWS[0],
        _row('Swin-T', '28.3', '4.5', swin('tiny')),
        _row('PVTv2-B2', '25.4', '4.0', pvt_v2('b2')),
        ATTNET_ROWS[1],
        _row('Swin-S', '49.6', '8.7', swin('small'), flops='table II prints 8.8'),
        _row('PVTv2-B3', '45.2', '6.9', pvt_v2('b3')),
        _row('PVTv2-B4', '62.6', '10.1', pvt_v2('b4')),
        ATTNET_ROWS[2],
        _row('Swin-B', '87.8', '15.4', swin('base'), flops='table II prints 15.5'),
        _row('PVTv2-B5', '82.0', '11.8', pvt_v2('b5')),
        ATTNET_ROWS[3],
    ),
)
