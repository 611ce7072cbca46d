"""Whether the classes of a config are those of its data and as many as its heads have."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.registry import DATASETS

from mmatconv.errors import UserError

# Others, such as rpn_head and STDC's auxiliary_head, do not predict the classes of the data set.
HEADS = ('bbox_head', 'mask_head', 'decode_head')


def class_names(dataset: dict, scope: str | None) -> list[str] | None:
    """The classes of a leaf data set: its ``metainfo.classes``, or those its type has; None where neither says.

    Args:
        dataset: Its part of the config.
        scope: The config's ``default_scope``.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    kind = dataset.get('type')
    if classes is None and isinstance(kind, str):
        kind = DATASETS.get(kind if '.' in kind or not scope else f'{scope}.{kind}')
    if classes is None:
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    return list(classes) if isinstance(classes, list | tuple) else None


def check_heads(model: Any, classes: Sequence[str], where: str) -> None:
    """Checks that every head of a detector or segmentor predicts as many classes as the data set has.

    Args:
        model: The config's model.
        classes: Names of the data set.
        where: Its place in the config, for the sentence.

    Raises:
        UserError: One does not.
    """
    for head, number in _heads(model, 'model'):
        if number != len(classes):
            raise UserError(
                f'{head}.num_classes is {number}, expected {len(classes)}, the number of classes of {where} '
                f'({listed(classes)}); set num_classes of every head to {len(classes)}, or correct '
                f'{where}.metainfo.classes'
            )


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names in quotes, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(f"'{name}'" for name in names[:most]) + more if names else 'none'


def _heads(node: Any, where: str, name: str = '') -> Iterator[tuple[str, int]]:
    """Place and num_classes of every head of `node`, lists of heads (Cascade R-CNN) included."""
    if isinstance(node, list | tuple):
        for index, part in enumerate(node):
            yield from _heads(part, f'{where}.{index}', name)
    elif isinstance(node, dict):
        number = node.get('num_classes')
        if name in HEADS and isinstance(number, int) and not node.get('class_agnostic'):
            yield where, number
        for key, value in node.items():
            yield from _heads(value, f'{where}.{key}', key)
