"""Products that stand in for convolutions follow cuDNN's flag, and leave torch's settings as they were."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmatconv.ops import convolution_precision, products

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture(params=[True, False])
def convolutions_take_tf32(request):
    with cudnn.flags(allow_tf32=request.param):
        yield request.param


def settings():
    newer = convolution_precision.HAS_FP32_PRECISION
    return cudnn.allow_tf32, matmul.allow_tf32, matmul.fp32_precision if newer else None


def test_only_float32_on_cuda_differs(convolutions_take_tf32):
    def differs(dtype, is_cuda):
        return convolution_precision.differs_from_convolutions(SimpleNamespace(dtype=dtype, is_cuda=is_cuda))

    assert matmul.allow_tf32 is False
    assert differs(torch.float32, True) == convolutions_take_tf32
    assert not any(differs(dtype, True) for dtype in (torch.float64, torch.float16, torch.bfloat16))
    assert not differs(torch.float32, False)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Products take the path of CUDA; the precision that torch's products have at each call is recorded."""
    seen = []

    def linear(*arguments, original=F.linear):
        seen.append(convolution_precision._products_take_tf32())
        return original(*arguments)

    monkeypatch.setattr(products.onednn, 'uses_onednn', lambda x: False)
    monkeypatch.setattr(convolution_precision, 'differs_from_convolutions', lambda x: True)
    monkeypatch.setattr(F, 'linear', linear)
    return seen


@pytest.mark.parametrize('bias', [True, False])
def test_the_product_follows_and_the_setting_comes_back(bias, as_on_cuda, convolutions_take_tf32):
    torch.manual_seed(0)
    x, weight, offset = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4), (5, 4), (5,))
    )
    arguments = (x, weight, offset) if bias else (x, weight)
    before = settings()
    output = products.linear(*arguments)
    assert as_on_cuda == [convolutions_take_tf32]
    torch.testing.assert_close(output, F.linear(*arguments))

    assert torch.autograd.gradcheck(products.linear, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(products.linear, arguments, fast_mode=True)
    as_on_cuda.clear()
    with pytest.raises(RuntimeError):
        products.linear(x, weight.mT)
    assert as_on_cuda == [convolutions_take_tf32]
    assert settings() == before


def test_the_backward_pass_follows(as_on_cuda, convolutions_take_tf32):
    seen = []

    class Recorded(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
                seen.append(convolution_precision._products_take_tf32())
            return function(*args, **(kwargs or {}))

    x, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((6, 4), (5, 4), (5,)))
    output = products.linear(x, weight, bias)
    with Recorded():
        torch.autograd.grad(output, (x, weight, bias), torch.ones_like(output))
    assert seen == [convolutions_take_tf32] * 2
