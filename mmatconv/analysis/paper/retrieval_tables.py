"""Table VII: visible-infrared retrieval."""

from functools import partial

from mmatconv.analysis.paper.figures import Counted, Row, Table
from mmatconv.analysis.paper.models import Backbone, attnet, convnext_tiny, counted, pvt_v2, resnet50, swin


def _parameters(backbone: Backbone) -> dict[str, Counted]:
    return {'params': counted('classifier', backbone)['params']}


def _row(model: str, params: str, backbone: Backbone, reason: str = '') -> Row:
    return Row(model, dict(params=params), partial(_parameters, backbone), dict(params=reason) if reason else {})


TABLE_VII = Table(
    'VII',
    'visible-infrared retrieval, the rows that OpenMMLab or this project has; the parameters printed are those of the '
    '1000-way classifiers',
    (
        _row('PVTv2-B1', '13.1', pvt_v2('b1'), "PVTv2's own repository prints 14.0, which the count gives"),
        _row('AttNet-T1', '13.7', attnet('T1')),
        _row('ResNet-50', '25.6', resnet50()),
        _row('ConvNeXt-Tiny', '29.0', convnext_tiny(), 'the count rounds to 29; a decimal was probably added'),
        _row('Swin-Tiny', '29.0', swin('tiny'), 'tables II and III print 28.3'),
        _row('PVTv2-B2', '25.4', pvt_v2('b2')),
        _row('AttNet-T2', '27.0', attnet('T2')),
    ),
)
