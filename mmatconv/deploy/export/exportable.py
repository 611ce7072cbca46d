"""Which form a model is exported in."""

from torch import nn

from mmatconv.deploy.export.classifier import Classifier
from mmatconv.deploy.export.segmentor import Segmentor
from mmatconv.errors import UserError


def exportable(model: nn.Module, scope: str | None) -> nn.Module:
    """A model as a function of an image alone; it shares the parameters.

    Args:
        model: Of mmdet, mmseg or mmpretrain.
        scope: Which of them.

    Returns:
        A module with ``task``, ``outputs`` (their names) and ``batch`` (1, or None for any).

    Raises:
        UserError: It cannot be exported; the sentence names the part that is not covered.
    """
    model = model.eval()
    if scope == 'mmdet':
        from mmatconv.deploy.export.detector import Detector  # needs the operators of a newer torch

        return Detector(model)
    forms = {'mmseg': Segmentor, 'mmpretrain': Classifier}
    if scope not in forms:
        raise UserError(f'models of default_scope {scope!r} cannot be exported; expected mmdet, mmseg or mmpretrain')
    return forms[scope](model)
