"""The guard of neck and heads is in force however a detector is called, and where its neck is recomputed."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmatconv import AttNet

ARCH = dict(depths=[1, 1], dims=[8, 12], exp_rates=2)


class Neck(nn.Module):
    def __init__(self, reentrant=None):
        super().__init__()
        # The bias of the first shows in the padding, where the others must not see it.
        self.convs = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
        self.reentrant = reentrant

    def forward(self, maps):
        if self.reentrant is None:
            return self.convs(maps[0])
        return checkpoint(self.convs, maps[0], use_reentrant=self.reentrant)


class Detector(nn.Module):
    def __init__(self, neck_first=False, reentrant=None):
        super().__init__()
        torch.manual_seed(0)
        backbone = AttNet(ARCH, init='live', mask_padding=True, drop_path_rate=0.0)
        neck = Neck(reentrant)
        for name, child in [('neck', neck), ('backbone', backbone)][:: 1 if neck_first else -1]:
            setattr(self, name, child)
        self.double().eval()

    def extract_feat(self, images):
        return self.neck(self.backbone(images))


def images():
    torch.manual_seed(1)
    alone = torch.randn(1, 3, 40, 48, dtype=torch.float64)
    return torch.cat([torch.randn(1, 3, 64, 64, dtype=torch.float64), F.pad(alone, (0, 16, 0, 24))]), alone


@pytest.mark.parametrize('neck_first', [False, True])
def test_without_calling_the_detector(neck_first):
    model, (batch, alone) = Detector(neck_first), images()
    together, expected = model.extract_feat(batch), model.extract_feat(alone)
    # float64 through some twenty layers
    torch.testing.assert_close(together[1:, :, :10, :12], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('reentrant', [False, True])
def test_a_recomputed_neck_in_another_thread_and_after_another_batch(reentrant):
    batch, alone = images()
    gradients = []
    for model in (Detector(), Detector(reentrant=reentrant)):
        loss = model.extract_feat(batch)[1:, :, :10, :12].square().sum()
        model.extract_feat(alone)
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for found, expected in zip(*gradients):
        # The second map of the backbone has no part in it.
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
