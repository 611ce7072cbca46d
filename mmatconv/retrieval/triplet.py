"""The batch-hard triplet loss (arXiv 1703.07737, section 2)."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

# The faster way through a matrix product loses the digits of small distances.
EXACT = 'donot_use_mm_for_euclid_dist'


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """For each image the farthest of its own identity must be nearer, by a margin, than the nearest of another.

    Args:
        features: (B, C); distances are Euclidean and computed in float32 at least.
        labels: (B,), identities.
        margin: In units of the features.

    Returns:
        The mean over the images, a scalar. An image without another identity in the batch counts as 0.
    """
    features = features if features.dtype == torch.float64 else features.float()
    distances = torch.cdist(features, features, compute_mode=EXACT)
    same = labels[:, None] == labels
    farthest = distances.masked_fill(~same, 0).amax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
    return torch.relu(farthest - nearest + margin).mean()


@MODELS.register_module()
class BatchHardTripletLoss(nn.Module):
    """:func:`batch_hard_triplet` as a loss of a config.

    Args:
        margin: Default: 0.3.
        loss_weight: Default: 1.0.
    """

    def __init__(self, margin: float = 0.3, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of features (B, C) and identities (B,)."""
        return self.loss_weight * batch_hard_triplet(features, labels, self.margin)
