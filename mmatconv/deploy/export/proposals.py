"""The region proposal network, from feature maps to a fixed number of proposals."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.deploy.export.boxes import Decode
from mmatconv.deploy.export.checks import count_of, nms_threshold, refuse_other, refuse_settings
from mmatconv.deploy.export.operators import nms

# Of what fills up a level with few anchors, and of boxes that are too small: below that of any box.
NO_SCORE = -1.0


class Proposals(nn.Module):
    """mmdet's RPNHead.

    Args:
        head: The RPNHead.

    Raises:
        UserError: A head or a setting that is not covered.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        refuse_other(head, 'rpn_head', ['RPNHead'])
        refuse_other(head.prior_generator, 'rpn_head.anchor_generator', ['AnchorGenerator'])
        refuse_settings('rpn_head', {'use_sigmoid_cls': (head.use_sigmoid_cls, True)})
        self.head = head
        self.decode = Decode(head.bbox_coder, 'rpn_head')
        settings = head.test_cfg
        self.overlap = nms_threshold(settings.nms, 'model.test_cfg.rpn.nms')
        self.before = count_of(settings, 'nms_pre', 'model.test_cfg.rpn')
        self.after = count_of(settings, 'max_per_img', 'model.test_cfg.rpn')
        self.smallest = settings.get('min_bbox_size', -1)
        self.strides = head.prior_generator.strides
        for level, anchors in enumerate(head.prior_generator.base_anchors):
            self.register_buffer(f'anchors_{level}', anchors.detach().clone())

    def forward(self, maps: tuple[Tensor, ...], limits: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (1, C, H, W) of every level and ``limits_of`` the image -> boxes (P, 4), whether they are any (P,)."""
        scores, boxes = zip(*(self._best(level, *both) for level, both in enumerate(zip(*self.head(maps)))))
        scores, boxes = torch.stack(scores), self.decode(*torch.stack(boxes, dim=1), limits)
        if self.smallest >= 0:
            large = (boxes[..., 2:] - boxes[..., :2] > self.smallest).all(-1)
            scores = torch.where(large, scores, NO_SCORE)
        kept = nms(boxes, scores, self.overlap, NO_SCORE / 2, self.after)
        return boxes.flatten(0, 1)[kept.clamp(min=0)], kept >= 0

    def _best(self, level: int, scores: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) of the best anchors of a level, and these with their deltas (2, N, 4); filled up to N."""
        anchors = self._anchors(level, scores)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        scores = F.pad(scores[0].permute(1, 2, 0).reshape(-1).sigmoid(), (0, self.before), value=NO_SCORE)
        scores, best = scores.topk(self.before)
        both = F.pad(torch.stack([anchors, deltas]), (0, 0, 0, self.before))
        return scores, both[:, best]

    def _anchors(self, level: int, scores: Tensor) -> Tensor:
        """(H * W * A, 4)."""
        across, down = self.strides[level]
        rows, columns = (torch.arange(side, device=scores.device).float() for side in scores.shape[2:])
        rows, columns = (rows * down)[:, None], (columns * across)[None]
        rows, columns = rows.expand(-1, columns.shape[1]), columns.expand(rows.shape[0], -1)
        shifts = torch.stack([columns, rows, columns, rows], dim=-1)
        return (shifts[:, :, None] + getattr(self, f'anchors_{level}')).reshape(-1, 4)
