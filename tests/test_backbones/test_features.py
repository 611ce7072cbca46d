"""Feature maps by name, for programs outside OpenMMLab."""

import pytest
import torch

import mmatconv
from mmatconv.backbones.features import NAMES
from mmatconv.errors import UserError


def test_every_arch_has_a_name():
    assert {'attnet_xxs', 'attnet_t4', 'atconv_pvt_large', 'atconv_swin_tiny'} <= set(NAMES)
    for name, (kind, arch) in NAMES.items():
        assert name.endswith(f'_{arch.lower()}') and arch in kind.arch_settings


def test_maps_and_their_info():
    torch.manual_seed(0)
    model = mmatconv.features_only('AttNet_XXS', out_indices=(0, 2, 3)).eval()
    x = torch.randn(2, 3, 70, 96)
    maps = model(x)
    info = model.feature_info
    assert [y.shape[1] for y in maps] == info.channels() == [32, 128, 240]
    assert info.reduction() == [4, 16, 32] and info.module_name() == ['stages.0.1', 'stages.2.3', 'stages.3.1']
    assert info[1] == dict(num_chs=128, reduction=16, module='stages.2.3') and len(info) == 3
    for y, reduction in zip(maps, info.reduction()):
        assert tuple(y.shape[2:]) == tuple((side + reduction - 1) // reduction for side in x.shape[2:])
    seen = []
    hook = model.body.get_submodule(info[1]['module']).register_forward_hook(lambda *args: seen.append(args[2]))
    model(x)
    hook.remove()
    torch.testing.assert_close(seen[0], maps[1], rtol=0, atol=0)


def test_weights_from_a_checkpoint(tmp_path):
    model = mmatconv.features_only('attnet_xxs', out_indices=(0, 1))
    state = {f'backbone.{name}': value for name, value in model.body.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'detector.pth')
    other = mmatconv.features_only('attnet_xxs', tmp_path / 'detector.pth', (0, 1), prefix='backbone.')
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(UserError, match=r"there is no backbone 'attnet_t9'; choose from attnet_xxs, .*, atconv_swin_b"):
        mmatconv.features_only('attnet_t9')


def test_torchvisions_mask_rcnn_trains_on_it():
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.rpn import AnchorGenerator

    torch.manual_seed(0)
    backbone = mmatconv.FPNFeatures(mmatconv.features_only('attnet_xxs', init='live'), out_channels=32)
    model = MaskRCNN(
        backbone,
        num_classes=2,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 5),
        box_detections_per_img=3,
    )
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 16:48, 8:40] = 1
    target = dict(boxes=torch.tensor([[8.0, 16, 40, 48]]), labels=torch.tensor([1]), masks=mask)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        loss = sum(model(images, [target, target]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.features.parameters())
    assert losses[-1] < 0.8 * losses[0]
    model.eval()
    with torch.no_grad():
        (found,) = model(images[:1])
    assert found['masks'].shape == (len(found['boxes']), 1, 64, 64)
