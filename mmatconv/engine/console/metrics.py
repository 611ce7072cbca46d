"""The scores of an evaluation under the names papers print, in percent."""

from collections.abc import Mapping
from typing import Any

_COCO = {'mAP': 'AP', 'mAP_50': 'AP50', 'mAP_75': 'AP75', 'mAP_s': 'APs', 'mAP_m': 'APm', 'mAP_l': 'APl'}
# The kind of prediction and the score, by the name that the evaluator logs.
_KNOWN = {
    **{f'coco/bbox_{name}': ('box', label) for name, label in _COCO.items()},
    **{f'coco/segm_{name}': ('mask', label) for name, label in _COCO.items()},
    **{name: ('', name) for name in ('mIoU', 'mAcc', 'aAcc')},
    'accuracy/top1': ('', 'top-1'),
    'accuracy/top5': ('', 'top-5'),
}
# Those worth a curve, by logged name: 'box AP', 'mask AP50', 'mIoU', 'top-1'.
METRICS = {
    name: ' '.join(filter(None, names)) for name, names in _KNOWN.items() if names[1] not in ('APs', 'APm', 'APl')
}


def percent(name: str, value: float) -> float:
    """The value of the metric logged as `name` in percent; pycocotools alone gives fractions."""
    return 100 * value if name.startswith('coco/') else value


def number(name: str, value: float, decimals: int = 1) -> str:
    """In percent, by default as papers print it; '-' for pycocotools' -1, where the data hold nothing of that size."""
    return '-' if name.startswith('coco/') and value < 0 else f'{percent(name, value):.{decimals}f}'


def headline(metrics: Mapping[str, Any]) -> str:
    """The first known score, as 'box AP 70.2'; empty if there is none."""
    return next((f'{label} {number(name, metrics[name])}' for name, label in METRICS.items() if name in metrics), '')


def table(metrics: Mapping[str, Any], title: str) -> str:
    """The scores of an evaluation as a table with a row for boxes and one for masks, and a line for any other metric.

    Args:
        metrics: Values by logged name, as MMEngine's evaluators return them; those that are not numbers are left out.
        title: Stands in the first line, beside the names of the scores.
    """
    known = {name: _KNOWN[name] for name in _KNOWN if name in metrics}
    labels = list(dict.fromkeys(label for _, label in known.values()))
    width = max(24, len(title))
    lines = [f'{title:<{width}}' + ''.join(f'{label:>7}' for label in labels)]
    for kind in dict.fromkeys(kind for kind, _ in known.values()):
        cells = {label: number(name, metrics[name]) for name, (owner, label) in known.items() if owner == kind}
        lines.append(f'  {kind:<{width - 2}}' + ''.join(f'{cells.get(label, ""):>7}' for label in labels))
    for name, value in metrics.items():
        if name not in known and name not in ('time', 'data_time') and isinstance(value, int | float):
            lines.append(f'  {name} {value:.4g}')
    return '\n'.join(lines)
