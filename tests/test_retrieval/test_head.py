"""BNNeck and the batch-hard triplet loss against their definitions in float64."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from mmatconv import BatchHardTripletLoss, ReIDHead, UserError
from mmatconv.retrieval.triplet import batch_hard_triplet

LABELS = torch.tensor([0, 0, 1, 1, 2, 0])


def samples(labels=LABELS):
    return [DataSample().set_gt_label(label) for label in labels.tolist()]


def by_definition(features, labels, margin):
    """Pair by pair."""
    losses = []
    for i, label in enumerate(labels):
        distances = [(features[i] - other).pow(2).sum().sqrt() if j != i else 0.0 for j, other in enumerate(features)]
        farthest = max(d for d, other in zip(distances, labels) if other == label)
        nearest = min(d for d, other in zip(distances, labels) if other != label)
        losses.append(torch.clamp(farthest - nearest + margin, min=0))
    return torch.stack(losses).mean()


def test_triplet_loss_and_gradient():
    torch.manual_seed(0)
    features = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    expected = by_definition(features, LABELS, 0.3)
    (gradient,) = torch.autograd.grad(expected, features)
    found = batch_hard_triplet(features, LABELS, 0.3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, features)[0], gradient)
    half = BatchHardTripletLoss(0.3, loss_weight=0.5)(features.detach().bfloat16(), LABELS)
    # Features of eight bits, computed with in float32.
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), expected / 2, rtol=0.02, atol=0)


def test_equal_features_have_a_gradient_that_is_finite():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(0.3) and features.grad.isfinite().all()


def test_one_identity_alone_costs_nothing():
    features = torch.randn(3, 4, requires_grad=True)
    loss = batch_hard_triplet(features, torch.zeros(3), 0.3)
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


def test_losses_are_before_and_after_the_batch_norm():
    torch.manual_seed(0)
    head = ReIDHead(3, 5, triplet=dict(type='mmatconv.BatchHardTripletLoss'))
    features = torch.randn(6, 5)
    losses = head.loss((features,), samples())
    normalised = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    expected = nn.functional.cross_entropy(normalised @ head.fc.weight.T, LABELS)
    torch.testing.assert_close(losses['loss_id'], expected)
    torch.testing.assert_close(losses['loss_triplet'], by_definition(features, LABELS, 0.3))
    assert head.fc.bias is None and not head.bottleneck.bias.requires_grad
    smooth = ReIDHead(3, 5, loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1))
    assert set(smooth.loss((features,), samples())) == {'loss_id'}


def test_features_are_those_after_the_batch_norm():
    head = ReIDHead(3, 5).eval()
    head.bottleneck.running_mean.fill_(2.0)
    features = torch.randn(2, 5)
    for predicted in (head.predict((features,), samples()[:2]), head.predict((features,))):
        found = torch.stack([sample.feature for sample in predicted])
        torch.testing.assert_close(found, (features - 2) / (1 + 1e-5) ** 0.5)


def test_more_identities_than_the_head_has():
    with pytest.raises(UserError, match='num_classes is 2, but the data set has a label 2; set num_classes to'):
        ReIDHead(2, 5).loss((torch.randn(6, 5),), samples())
