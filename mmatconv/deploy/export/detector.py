"""Faster, Mask and Cascade R-CNN of mmdet as one function of an image."""

from torch import Tensor, nn

from mmatconv.deploy.export.boxes import limits_of
from mmatconv.deploy.export.checks import refuse_other
from mmatconv.deploy.export.maps import Maps
from mmatconv.deploy.export.pixels import Pixels
from mmatconv.deploy.export.proposals import Proposals
from mmatconv.deploy.export.roi_heads import Boxes, Masks, check_roi_head


class Detector(nn.Module):
    """The prediction of a two-stage detector.

    Args:
        model: FasterRCNN, MaskRCNN or CascadeRCNN, in evaluation mode.

    Raises:
        UserError: A part or a setting that is not covered; the sentence names it.
    """

    task = 'detection'
    batch = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        refuse_other(model, 'model', ['FasterRCNN', 'MaskRCNN', 'CascadeRCNN'])
        check_roi_head(model.roi_head)
        self.pixels = Pixels(model.data_preprocessor)
        self.maps = Maps(model, self.pixels.pads)
        self.proposals = Proposals(model.rpn_head)
        self.boxes = Boxes(model.roi_head)
        self.masks = Masks(model.roi_head) if model.roi_head.with_mask else None
        self.outputs = ['boxes', 'scores', 'labels', *(['masks'] if self.masks else [])]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Pixels (1, C, H, W) -> boxes (N, 4) in pixels of this image, scores (N,), labels (N,) and, of a detector with
        masks, probabilities (N, S, S) over the area of each box; N is the number of detections.
        """
        limits = limits_of(image)
        maps = self.maps(self.pixels(image))
        boxes, scores, labels, found = self.boxes(maps, *self.proposals(maps, limits), limits)
        masks = [] if self.masks is None else [self.masks(maps, boxes, labels)]
        return tuple(output[found] for output in (boxes, scores, labels, *masks))
