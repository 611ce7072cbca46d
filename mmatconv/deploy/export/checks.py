"""What can be exported, and the sentence for what cannot."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmatconv.errors import UserError
from mmatconv.ops.tracing import HAS_EXPORT_FLAG


def refuse_other(module: Any, name: str, kinds: Sequence[str]) -> str:
    """The name of a module's class, which must be one of ``kinds`` itself: what a subclass changes would be lost.

    Raises:
        UserError: It is not; the sentence calls the module ``name``.
    """
    kind = type(module).__name__
    if kind not in kinds:
        raise UserError(f'{name} is {kind}, which cannot be exported; expected {" or ".join(kinds)}')
    return kind


def refuse_settings(name: str, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Compares settings of a module: their name -> (value, the only value that is covered).

    Raises:
        UserError: One differs.
    """
    for setting, (value, covered) in settings.items():
        if value != covered:
            raise UserError(f'{name} with {setting}={value!r} cannot be exported; expected {covered!r}')


def nms_threshold(settings: Mapping[str, Any], name: str) -> float:
    """The overlap from which a setting of mmdet's ``nms`` suppresses.

    Raises:
        UserError: Another kind of suppression, or options that change it.
    """
    others = set(settings) - {'type', 'iou_threshold', 'split_thr'}
    if settings.get('type', 'nms') != 'nms' or others or 'iou_threshold' not in settings:
        raise UserError(f"{name} {dict(settings)} cannot be exported; expected type 'nms' and iou_threshold alone")
    return float(settings['iou_threshold'])


def count_of(settings: Mapping[str, Any], key: str, name: str) -> int:
    """A number of boxes, which must be fixed in a graph.

    Raises:
        UserError: It is not set, or -1 for all.
    """
    count = settings.get(key, -1)
    if count <= 0:
        raise UserError(
            f'{name}.{key} is {count}, and a graph needs a fixed number of boxes; set it, for example to 1000'
        )
    return count


def check_packages(onnx: bool = True) -> None:
    """Whether torch is new enough and the packages of ONNX are there.

    Raises:
        UserError: One is missing.
    """
    if not HAS_EXPORT_FLAG:
        raise UserError(f'export needs torch 2.7 or later, and this is {torch.__version__}')
    for package in ('onnx', 'onnxruntime', 'onnxscript') if onnx else ():
        try:
            __import__(package)
        except ImportError as error:
            raise UserError(f"export needs the package {package}: pip install 'mmatconv[onnx]' ({error})") from error
