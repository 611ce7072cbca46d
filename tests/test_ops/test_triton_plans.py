"""Launches worked out once, compared with those of Triton's own front door on a driver that only notes them down."""

import os
from types import SimpleNamespace

import pytest
import torch

from mmatconv.analysis.benchmark.pretended_gpu import KernelStub, pretended_gpu

knobs = pytest.importorskip('triton.knobs', reason='without Triton from 3.4 on, plans launch nothing themselves')
import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from mmatconv.ops import triton_plans as plans  # noqa: E402

pytestmark = pytest.mark.skipif(
    os.environ.get('TRITON_INTERPRET') == '1',
    reason="Triton's interpreter compiles nothing to launch; run these tests without TRITON_INTERPRET",
)


@triton.jit(do_not_specialize=['free'])
def copy_kernel(x, y, n, free, BLOCK: tl.constexpr, ACC: tl.constexpr):
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + columns, tl.load(x + columns, mask=columns < n).to(ACC), mask=columns < n)


@pytest.fixture
def launched(monkeypatch):
    """What reaches the driver: what the kernel was specialised on, grid and stream, arguments."""
    found = []

    def run(stub, *args):
        x, y, z, stream, function, metadata, _, _, _, *arguments = args
        assert function is stub.function and metadata is stub.packed_metadata
        # Tensors by address.
        places = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        found.append((stub.key, (x, y, z, stream), places))

    monkeypatch.setattr(KernelStub, 'run', run)
    with pretended_gpu():
        yield found


@pytest.fixture
def front_door(monkeypatch):
    """How often Triton's own front door is used."""
    calls = []
    run = triton.runtime.jit.JITFunction.run

    def counted(kernel, *args, **kwargs):
        calls.append(kernel)
        return run(kernel, *args, **kwargs)

    monkeypatch.setattr(triton.runtime.jit.JITFunction, 'run', counted)
    return calls


def tensors(dtype=torch.float32, shift=0):
    return [torch.zeros(64 + shift, dtype=dtype)[shift:] for _ in range(2)]


def plan(n, free):
    return plans.Plan(copy_kernel, (3, 2), (n, free), BLOCK=32, ACC=tl.float32, num_warps=2)


@pytest.mark.parametrize('n', [1, 16, 17, 2**31])
def test_launches_what_the_front_door_would(n, launched, front_door):
    own = plan(n, n)
    cases = [tensors(dtype, shift) for dtype in (torch.float32, torch.bfloat16) for shift in (0, 1)]
    mixed = [cases[0][0], cases[1][1]], [cases[2][0], cases[1][1]]
    for x, y in [*cases, *mixed] * 2:
        copy_kernel[(3, 2)](x, y, n, n, BLOCK=32, ACC=tl.float32, num_warps=2)
        own(x, y)
        assert launched[-1] == launched[-2]
    assert len({key for key, _, _ in launched}) == 6
    # The plan came through the front door once for each specialisation.
    assert len(launched) == 24 and len(front_door) == 12 + 6


def test_watched_launches_use_the_front_door(monkeypatch, launched, front_door):
    own, pair = plan(5, 5), tensors()
    own(*pair)
    own(*pair)
    assert len(front_door) == 1
    seen = []
    monkeypatch.setattr(copy_kernel, 'pre_run_hooks', [lambda *args, **kwargs: seen.append(args)])
    own(*pair)
    assert len(front_door) == 2 and len(seen) == 1
    monkeypatch.setattr(copy_kernel, 'pre_run_hooks', [])
    for name in ('launch_enter_hook', 'launch_exit_hook'):
        with monkeypatch.context() as patch:
            patch.setattr(knobs.runtime, name, SimpleNamespace(calls=[seen.append]))
            before = len(front_door)
            own(*pair)
            assert len(front_door) == before + 1
    before = len(front_door)
    own(*pair)
    assert len(front_door) == before


def test_debug_mode_is_another_kernel(monkeypatch, launched):
    own, pair = plan(5, 5), tensors()
    own(*pair)
    monkeypatch.setattr(knobs.runtime, 'debug', not knobs.runtime.debug)
    own(*pair)
    own(*pair)
    keys = [key for key, _, _ in launched]
    assert keys[0] != keys[1] == keys[2]


def test_a_missing_constant_is_an_error(launched):
    with pytest.raises(TypeError):
        plans.Plan(copy_kernel, (1,), (5, 5), BLOCK=32)(*tensors())


def test_a_layout_reads_as_its_tensor():
    x = torch.zeros(2, 3, 4, 5, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    found = plans.layout(x)
    assert (found.shape, found.stride(), found.stride(1), found.element_size()) == (x.shape, x.stride(), 1, 2)
    assert found == plans.layout(x.clone()) and hash(found) == hash(plans.layout(x.clone()))
    assert found != plans.layout(x.contiguous()) and found != plans.layout(x.half())
