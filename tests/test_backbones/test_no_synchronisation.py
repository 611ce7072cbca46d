"""With mask_padding on a GPU nothing waits for it: what a CUDA graph can capture.

Meta tensors have no values, so that whatever asks for one fails here as well; they take the branches of a GPU.
"""

import pytest
import torch
from mmdet.models import FPN, RPNHead
from mmengine.config import ConfigDict
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from mmatconv import ATConvPVT, AttNet
from mmatconv.layers.padding_mask import find_padding

ARCH = dict(depths=[1, 1, 1, 1], dims=[8, 12, 20, 24])
SYNCHRONISING = {
    '_local_scalar_dense', 'item', 'is_nonzero', 'equal', 'nonzero', 'masked_select', '_unique2', 'unique_dim',
    'unique_consecutive', 'repeat_interleave', 'bincount',
}  # fmt: skip


class NoSynchronisation(TorchDispatchMode):
    """Raises where a GPU would be waited for: its values are read, or tensors are copied to it or from it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.rpartition('::')[2]
        self.names.append(name)
        if name.startswith(('index', '_index_put', '_unsafe_index')) and isinstance(args[1], list | tuple):
            if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
                raise AssertionError(f'{func} with a mask counts its entries')
        result = func(*args, **(kwargs or {}))
        devices = {t.device.type for t in (*args, result) if isinstance(t, torch.Tensor) and (t.dim() or t is result)}
        if name in SYNCHRONISING or len(devices) > 1:
            raise AssertionError(f'{func} on {sorted(devices)} waits for the GPU')
        return result


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = FPN(ARCH['dims'], 16, 5)
        self.rpn_head = RPNHead(
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[4, 8, 16, 32, 64]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            train_cfg=ConfigDict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3)),
        )

    def forward(self, images):
        return self.rpn_head(self.neck(self.backbone(images)))


BACKBONES = {
    'AttNet': lambda: AttNet(ARCH, mask_padding=True, out_norm=True),
    'AttNet-grid': lambda: AttNet(ARCH, mask_padding=True, context_pool='grid', norm_eval=True),
    'AttNet-classification': lambda: AttNet(ARCH, mask_padding=True, gap_before_final_norm=True),
    'ATConvPVT': lambda: ATConvPVT(ARCH, mask_padding=True),
    'ATConvPVT-depthwise': lambda: ATConvPVT(ARCH, mask_padding=True, token_mixer=dict(type='DepthwiseConv')),
}


def images(device='meta'):
    return torch.empty(2, 3, 70, 97, device=device).contiguous(memory_format=torch.channels_last)


def results(outputs):
    return [x for part in outputs for x in (part if isinstance(part, list | tuple) else [part])]


@pytest.mark.newer_torch
@pytest.mark.parametrize('form', BACKBONES)
def test_backbone_forward_and_backward(form):
    model = BACKBONES[form]().to('meta')
    x = images().requires_grad_()
    with NoSynchronisation() as seen:
        sum(output.sum() for output in model(x)).backward()
    assert x.grad.shape == x.shape and all(p.grad is not None for p in model.parameters())
    # The mask is there, and zeroes, although nobody knows what is padded.
    assert {'where', 'bmm'} <= set(seen.names) if 'depthwise' not in form else 'masked_fill_' in seen.names


@pytest.mark.newer_torch
@pytest.mark.parametrize('training', [False, True])
def test_neck_and_head(training):
    model = Detector(BACKBONES['AttNet']()).train(training).to('meta')
    x = images().requires_grad_()
    with NoSynchronisation() as seen:
        outputs = results(model(x))
        sum(output.sum() for output in outputs).backward()
    assert len(outputs) == 10 and x.grad.shape == x.shape
    # Interpolation sees the edge repeated.
    assert 'gather' in seen.names


@pytest.mark.newer_torch
@pytest.mark.parametrize('pool', ['flat', 'grid'])
def test_on_a_gpu_that_is_not_there(pool):
    model = AttNet(ARCH, mask_padding=True, context_pool=pool)
    shapes = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
    with FakeTensorMode(), torch.no_grad():
        state = {name: torch.empty(shape, dtype=dtype, device='cuda') for name, (shape, dtype) in shapes.items()}
        with NoSynchronisation() as seen:
            outputs = functional_call(model, state, images('cuda'))
    assert all(output.is_cuda for output in outputs)
    # The fused pooling, and not a product with every bin.
    assert seen.names.count('context_pool') == seen.names.count('dynamic_depthwise_conv2d') == 4
    assert 'bmm' not in seen.names


WAITING = {
    'item': lambda x: x.sum().item(),
    'a condition': lambda x: bool((x == 0).all()),
    'a mask as index': lambda x: x[x == 0],
    'nonzero': lambda x: x.nonzero(),
    'a copy to it': lambda x: torch.zeros(2).to(x.device),
    'sizes in Python': lambda x: find_padding(x).side_lengths,
}


@pytest.mark.parametrize('name', WAITING)
def test_what_waits_is_found(name):
    x = images()
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), NoSynchronisation():
        WAITING[name](x)
