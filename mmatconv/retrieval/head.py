"""The head of person re-identification."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models import LinearClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmatconv.errors import UserError


@MODELS.register_module()
class ReIDHead(LinearClsHead):
    """BNNeck (arXiv 1903.07071): the triplet loss before a batch norm, the identities after it, and so the features.

    The batch norm has no shift and the classifier no bias, as there. Label smoothing is mmpretrain's
    ``loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)``.

    Args:
        num_classes: Identities of the training set.
        in_channels: Channels of the pooled features.
        triplet: The loss before the batch norm, ``dict(type='mmatconv.BatchHardTripletLoss')``. Default: None, none.
        **kwargs: Those of mmpretrain's LinearClsHead; its ``loss`` is cross entropy by default.
    """

    def __init__(self, num_classes: int, in_channels: int, triplet: dict | None = None, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.fc = nn.Linear(in_channels, num_classes, bias=False)
        self.bottleneck = nn.BatchNorm1d(in_channels)
        self.bottleneck.bias.requires_grad_(False)
        self.triplet = None if triplet is None else MODELS.build(triplet)

    def pre_logits(self, feats: Sequence[Tensor]) -> Tensor:
        """What images are compared by: the last of the features (B, C) after the batch norm."""
        return self.bottleneck(feats[-1])

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[DataSample], **kwargs: Any) -> dict[str, Tensor]:
        """'loss_id' of the identities and, where there is one, 'loss_triplet'.

        Raises:
            UserError: The data set has more identities than the head.
        """
        labels = torch.cat([sample.gt_label for sample in data_samples])
        if int(labels.max()) >= self.num_classes:
            raise UserError(
                f'model.head.num_classes is {self.num_classes}, but the data set has a label {int(labels.max())}; set '
                'num_classes to the number of its identities'
            )
        losses = super().loss(feats, data_samples, **kwargs)
        # 'loss' is what MMEngine logs the sum as.
        losses['loss_id'] = losses.pop('loss')
        if self.triplet is not None:
            losses['loss_triplet'] = self.triplet(feats[-1], labels)
        return losses

    def predict(
        self, feats: Sequence[Tensor], data_samples: Sequence[DataSample] | None = None
    ) -> Sequence[DataSample]:
        """The data samples with a ``feature`` (C,) each, for :class:`mmatconv.CrossModalityMetric`."""
        features = self.pre_logits(feats)
        if data_samples is None:
            data_samples = [DataSample() for _ in features]
        for sample, feature in zip(data_samples, features):
            sample.set_field(feature, 'feature')
        return data_samples
