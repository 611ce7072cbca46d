"""Classifiers of mmpretrain as one function of images."""

from torch import Tensor, nn

from mmatconv.deploy.export.checks import refuse_other
from mmatconv.deploy.export.maps import Maps
from mmatconv.deploy.export.pixels import Pixels
from mmatconv.errors import UserError


class Classifier(nn.Module):
    """The class scores of an ImageClassifier, before the softmax.

    Args:
        model: In evaluation mode.

    Raises:
        UserError: A head that does not predict one class by a softmax.
    """

    task = 'classification'
    batch = None
    outputs = ('logits',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from mmpretrain.models.heads import ClsHead

        refuse_other(model, 'model', ['ImageClassifier'])
        head = getattr(model, 'head', None)
        if not isinstance(head, ClsHead) or type(head)._get_predictions is not ClsHead._get_predictions:
            raise UserError(
                f'head is {type(head).__name__}, which cannot be exported; expected one that predicts one '
                'class by a softmax, as LinearClsHead'
            )
        self.pixels = Pixels(model.data_preprocessor)
        self.maps = Maps(model, self.pixels.pads)
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Pixels (B, C, H, W) -> logits (B, classes)."""
        return (self.head(self.maps(self.pixels(image))),)
