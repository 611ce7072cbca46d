"""Second stages of detectors: from proposals to a fixed number of boxes, and their masks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmatconv.deploy.export.boxes import Decode
from mmatconv.deploy.export.checks import count_of, nms_threshold, refuse_other, refuse_settings
from mmatconv.deploy.export.operators import nms
from mmatconv.deploy.export.roi_features import RoIFeatures

BOX_HEADS = ('Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead')


class BoxStage(nn.Module):
    """A box head on features of proposals, and how its boxes are read."""

    def __init__(self, extractor: nn.Module, head: nn.Module, name: str) -> None:
        super().__init__()
        refuse_other(head, name, BOX_HEADS)
        covered = dict(with_cls=True, with_reg=True, custom_cls_channels=False, custom_activation=False)
        refuse_settings(name, {key: (bool(getattr(head, key)), value) for key, value in covered.items()})
        self.features = RoIFeatures(extractor, f'{name}.roi_extractor')
        self.head = head
        self.decode = Decode(head.bbox_coder, name)
        self.agnostic = head.reg_class_agnostic

    def forward(self, maps: tuple[Tensor, ...], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, 4) -> scores (P, classes + 1) before the softmax, and deltas (P, classes or 1, 4)."""
        scores, deltas = self.head(self.features(maps, boxes))
        return scores, deltas.reshape(deltas.shape[0], -1, 4)

    def refine(self, boxes: Tensor, scores: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        """The boxes (P, 4) that the next stage of a cascade begins with."""
        if self.agnostic:
            return self.decode(boxes, deltas[:, 0], limits)
        best = scores[:, :-1].argmax(1)[:, None, None].expand(-1, 1, 4)
        return self.decode(boxes, deltas.gather(1, best)[:, 0], limits)


class Boxes(nn.Module):
    """The box branch of StandardRoIHead (one stage) and CascadeRoIHead (several).

    Raises:
        UserError: A head or a setting that is not covered.
    """

    def __init__(self, roi_head: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            BoxStage(extractor, head, 'roi_head.bbox_head')
            for extractor, head in zip(_list(roi_head.bbox_roi_extractor), _list(roi_head.bbox_head))
        )
        settings = roi_head.test_cfg
        self.overlap = nms_threshold(settings.nms, 'model.test_cfg.rcnn.nms')
        self.count = count_of(settings, 'max_per_img', 'model.test_cfg.rcnn')
        self.threshold = float(settings.score_thr)

    def forward(
        self, maps: tuple[Tensor, ...], proposals: Tensor, there: Tensor, limits: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Proposals (P, 4) and whether they are any (P,) -> boxes (N, 4), scores (N,), labels (N,), and whether they
        are any (N,); N is ``max_per_img``.
        """
        total = 0.0
        for index, stage in enumerate(self.stages):
            if index:
                proposals = self.stages[index - 1].refine(proposals, scores, deltas, limits)  # noqa: F821
            scores, deltas = stage(maps, proposals)
            total = total + scores
        scores = (total / len(self.stages)).softmax(1)[:, :-1]
        scores = torch.where(there[:, None], scores, -1.0).t()
        boxes = self.stages[-1].decode(proposals[:, None], deltas, limits).transpose(0, 1)
        boxes = boxes.expand(scores.shape[0], -1, -1).contiguous()
        kept = nms(boxes, scores.contiguous(), self.overlap, self.threshold, self.count)
        found, kept = kept >= 0, kept.clamp(min=0)
        labels = torch.div(kept, scores.shape[1], rounding_mode='floor')
        return boxes.flatten(0, 1)[kept], scores.flatten()[kept], labels, found


class Masks(nn.Module):
    """The mask branch of StandardRoIHead and CascadeRoIHead, whose stages are averaged.

    Raises:
        UserError: A head that is not covered.
    """

    def __init__(self, roi_head: nn.Module) -> None:
        super().__init__()
        extractors, heads = _list(roi_head.mask_roi_extractor), _list(roi_head.mask_head)
        for head in heads:
            refuse_other(head, 'roi_head.mask_head', ['FCNMaskHead'])
        self.features = nn.ModuleList(RoIFeatures(each, 'roi_head.mask_roi_extractor') for each in extractors)
        self.heads = nn.ModuleList(heads)
        self.agnostic = heads[-1].class_agnostic

    def forward(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Boxes (N, 4) and labels (N,) -> probabilities (N, S, S) over the area of each box."""
        masks = [head(features(maps, boxes)).sigmoid() for features, head in zip(self.features, self.heads)]
        masks = torch.stack(masks).mean(0)
        if self.agnostic:
            return masks[:, 0]
        index = labels[:, None, None, None].expand(-1, 1, *masks.shape[2:])
        return masks.gather(1, index)[:, 0]


def check_roi_head(roi_head: nn.Module) -> None:
    """Whether the second stage is of a kind that is covered.

    Raises:
        UserError: It is not.
    """
    refuse_other(roi_head, 'roi_head', ['StandardRoIHead', 'CascadeRoIHead'])
    refuse_settings('roi_head', {'shared_head': (getattr(roi_head, 'shared_head', None), None)})


def _list(modules: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
