"""Tables IV, V and VI: detection and segmentation."""

from functools import partial

from mmatconv.analysis.paper.figures import Row, Table
from mmatconv.analysis.paper.models import (
    Backbone,
    atconv_pvt,
    attnet,
    counted,
    inline_pvt,
    multiply_adds,
    pvt,
    swin,
    without_attention_products,
)

DETECTOR = (
    'undetermined: neck and heads that reproduce all attention rows count 170 to 171 G, and what the paper leaves for '
    'them is less and differs from row to row, {left} G'
)
PVT_LEFT, ATTNET_LEFT = (DETECTOR.format(left=left) for left in ('136, 142, 125, 144', '121, 137, 136'))
SEGMENTOR = (
    'undetermined: with the neck and head that reproduce the PVT rows to the digit the model counts less, '
    'by another amount in each row'
)
KEPT_HEAD = 'undetermined: the count rounded up, or with the unused 1000-way head and its norm ({with_head})'
INLINE_M = 'the count that gives the other three rows of InLine to the digit comes to 311, digits of 301 exchanged'
SWIN_OLD_COUNTER = "without the matrix products of window attention, as Swin's own figures; with them {whole} G"


def _detector(model: str, flops: str, backbone: Backbone, reason: str = '', /, **options: object) -> Row:
    count = partial(_flops_of_detector, backbone, **options)
    return Row(model, dict(flops=flops), count, dict(flops=reason) if reason else {})


def _flops_of_detector(backbone: Backbone, **options: object) -> dict:
    figures = counted('mask_rcnn', backbone, **options)
    return {'flops': figures['flops']}


def _segmentor(model: str, params: str, flops: str, backbone: Backbone, /, **reasons: str) -> Row:
    count = partial(counted, 'sem_fpn', backbone, flops=multiply_adds)
    return Row(model, dict(params=params, flops=flops), count, reasons)


def _swin_detector(model: str, flops: str, arch: str, whole: str) -> Row:
    reason = SWIN_OLD_COUNTER.format(whole=whole)
    return _detector(model, flops, swin(arch), reason, flops=without_attention_products)


TABLE_IV = Table(
    'IV',
    'Mask R-CNN with FPN at 800 x 1280, 1000 RoIs for the box head and 100 for the mask head; fvcore totals',
    (
        _detector('PVT-T', '240', pvt('tiny')),
        _detector('InLine-PVT-T', '211', inline_pvt('tiny')),
        _detector('ATConv-PVT-T', '173', atconv_pvt('tiny'), PVT_LEFT),
        _detector('PVT-S', '305', pvt('small')),
        _detector('InLine-PVT-S', '250', inline_pvt('small')),
        _detector('ATConv-PVT-S', '215', atconv_pvt('small'), PVT_LEFT),
        _detector('PVT-M', '392', pvt('medium')),
        _detector('InLine-PVT-M', '301', inline_pvt('medium'), INLINE_M),
        _detector('ATConv-PVT-M', '252', atconv_pvt('medium'), PVT_LEFT),
        _detector('PVT-L', '494', pvt('large')),
        _detector('InLine-PVT-L', '377', inline_pvt('large')),
        _detector('ATConv-PVT-L', '332', atconv_pvt('large'), PVT_LEFT),
    ),
)

TABLE_V = Table(
    'V',
    'Mask R-CNN with FPN at 800 x 1280, the rows that mmdet or this project has; counted as table IV',
    (
        _swin_detector('Swin-T', '264', 'tiny', '267.0'),
        _detector('AttNet-T2', '225', attnet('T2'), ATTNET_LEFT),
        _swin_detector('Swin-S', '354', 'small', '359.2'),
        _detector('AttNet-T3', '329', attnet('T3'), ATTNET_LEFT),
        _swin_detector('Swin-B', '496', 'base', '503.9'),
        _detector('AttNet-T4', '478', attnet('T4'), ATTNET_LEFT),
    ),
)

TABLE_VI = Table(
    'VI',
    'SemanticFPN at 512 x 2048 with 150 classes; FLOPs are multiply-adds',
    (
        _segmentor('PVT-T', '17', '158', pvt('tiny')),
        _segmentor('InLine-PVT-T', '16', '127', inline_pvt('tiny')),
        _segmentor('ATConv-PVT-T', '14', '136', atconv_pvt('tiny'), flops=SEGMENTOR),
        _segmentor('PVT-S', '28', '225', pvt('small')),
        _segmentor('InLine-PVT-S', '25', '168', inline_pvt('small')),
        _segmentor(
            'ATConv-PVT-S',
            '23',
            '173',
            atconv_pvt('small'),
            params=KEPT_HEAD.format(with_head='22.6'),
            flops=SEGMENTOR,
        ),
        _segmentor('PVT-L', '65', '420', pvt('large')),
        _segmentor('InLine-PVT-L', '55', '298', inline_pvt('large'), flops='the count rounded up'),
        _segmentor(
            'ATConv-PVT-L',
            '48',
            '292',
            atconv_pvt('large'),
            params=KEPT_HEAD.format(with_head='47.6'),
            flops=SEGMENTOR,
        ),
    ),
)
