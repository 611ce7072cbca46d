"""Which path is taken, how one is forced, and the fallback."""

import subprocess
import sys
import warnings

import pytest
import torch

from mmatconv import UserError
from mmatconv.ops import dynamic_depthwise_conv2d, paths, reference
from mmatconv.ops.context_to_kernel.custom_operator import context_pool
from mmatconv.ops.glu.gelu_mul import gelu_mul

MODULE = 'dynamic_conv.triton_launch'


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 5, 4, generator=generator), torch.randn(2, 3, 3, 3, generator=generator)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(paths, '_refused', {})
    monkeypatch.setattr(paths, '_warned', set())
    monkeypatch.delenv(paths.VARIABLE, raising=False)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)


@pytest.fixture
def taken(monkeypatch):
    """The paths that ran."""
    names = []
    module = sys.modules['mmatconv.ops.dynamic_conv.function']
    for owner, name in ((module, 'grouped'), (paths, 'grouped'), (module, 'reference')):
        original = getattr(owner, name)

        def spy(*args, name=name, original=original):
            names.append(name)
            return original(*args)

        monkeypatch.setattr(owner, name, spy)
    return names


@pytest.mark.parametrize(
    ('argument', 'variable', 'expected'),
    [
        (None, None, 'grouped'),
        (None, '', 'grouped'),
        (None, 'reference', 'reference'),
        ('reference', 'grouped', 'reference'),
        ('grouped', 'reference', 'grouped'),
        ('auto', 'reference', 'grouped'),
    ],
)
def test_argument_goes_before_variable(argument, variable, expected, case, taken, monkeypatch):
    if variable is not None:
        monkeypatch.setenv(paths.VARIABLE, variable)
    output = dynamic_depthwise_conv2d(*case, path=argument)
    assert taken == [expected]
    torch.testing.assert_close(output, reference(*case))


@pytest.mark.parametrize(
    ('argument', 'variable', 'named'),
    [
        ('cudnn', None, "path must be one of auto, reference, grouped, triton, but is 'cudnn'."),
        (None, 'fast', 'the environment variable MMATCONV_OP must be one of auto, reference, grouped, triton, '),
    ],
)
def test_unknown_paths_are_named(argument, variable, named, case, monkeypatch):
    if variable:
        monkeypatch.setenv(paths.VARIABLE, variable)
    with pytest.raises(UserError) as error:
        dynamic_depthwise_conv2d(*case, path=argument)
    assert named in str(error.value)


def test_forced_triton_needs_a_gpu(case):
    with pytest.raises(UserError, match=r'^path .triton. cannot run: its input is on cpu'):
        dynamic_depthwise_conv2d(*case, path='triton')


@pytest.mark.newer_torch
@pytest.mark.parametrize(
    ('size', 'dtype', 'named'), [(9, torch.float32, 'kernel size is 9'), (3, torch.float8_e5m2, 'torch.float8_e5m2')]
)
def test_forced_triton_names_what_it_lacks(size, dtype, named, monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    with pytest.raises(UserError, match=named):
        paths.forward(torch.zeros(1, 1, 4, 4, dtype=dtype), torch.zeros(1, 1, size, size, dtype=dtype), 'triton')


class OnGPU:
    """A stand-in for the input's device, as far as the choice of the path looks at it."""

    def __init__(self, tensor):
        self.device = torch.device('cuda', 0)
        self.dtype = tensor.dtype
        self.is_cuda = True


def on_gpu(case, failure):
    """Run 'auto' as on a GPU whose kernels fail; what ran, and the warnings."""
    x, kernel = case

    def fail(module):
        raise failure

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        result = paths._run(OnGPU(x), kernel, 'auto', fail, lambda: 'grouped')
    return result, [str(warning.message) for warning in caught]


@pytest.mark.newer_torch
def test_falls_back_with_one_warning_for_each_cause(case):
    result, messages = on_gpu(case, RuntimeError('no C compiler\nand more'))
    assert result == 'grouped'
    assert messages == [
        'The Triton kernels of dynamic_depthwise_conv2d cannot run, torch computes instead: RuntimeError: no C compiler'
    ]
    assert on_gpu(case, RuntimeError('no C compiler\nand more')) == ('grouped', [])
    half = [t.half() for t in case]
    result, messages = on_gpu(half, RuntimeError('another'))
    assert result == 'grouped'
    assert len(messages) == 1


@pytest.mark.newer_torch
@pytest.mark.parametrize(
    ('variable', 'taken'), [('', True), ('triton', True), ('grouped', False), ('reference', False)]
)
def test_steps_of_a_block_follow_the_variable(variable, taken, case, monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, variable)
    assert paths.takes_triton(OnGPU(case[0])) == taken
    assert paths.takes_triton(case[0]) == (variable == 'triton')
    result = paths.run_step('a step', OnGPU(case[0]), MODULE, lambda triton: triton.__name__, lambda: 'torch')
    assert result == (f'mmatconv.ops.{MODULE}' if taken else 'torch')


@pytest.mark.newer_torch
def test_a_step_of_a_block_falls_back_with_one_warning(case):
    with pytest.warns(RuntimeWarning) as caught:
        for _ in range(2):
            result = paths.run_step('a step', OnGPU(case[0]), MODULE, lambda triton: fail(), lambda: 'torch')
            assert result == 'torch'
    message = 'The Triton kernels of a step cannot run, torch computes instead: RuntimeError: no C compiler'
    assert [str(warning.message) for warning in caught] == [message]


@pytest.mark.newer_torch
def test_forced_steps_of_a_block_need_a_gpu(case, monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, 'triton')
    for step in (lambda x: gelu_mul(x, x), lambda x: context_pool(x, 3, grid=True)):
        with pytest.raises(UserError, match=r'^path .triton. cannot run: its input is on cpu'):
            step(case[0])


def test_what_failed_is_not_tried_again(case):
    on_gpu(case, RuntimeError('first'))
    result, messages = on_gpu(case, AssertionError('never raised'))
    assert (result, messages) == ('grouped', [])


@pytest.mark.newer_torch
def test_lack_of_memory_is_no_reason_to_fall_back(case):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        on_gpu(case, torch.cuda.OutOfMemoryError('full'))


@pytest.mark.newer_torch
def test_forced_kernels_that_fail_say_so(case):
    with pytest.raises(RuntimeError, match='no C compiler'):
        paths._run(OnGPU(case[0]), case[1], 'triton', lambda module: 1 / 0 if module is None else fail(), lambda: None)


def fail():
    raise RuntimeError('no C compiler')


WITHOUT_TRITON = """
import importlib.util, sys, torch
importlib.util.find_spec = lambda name: None  # no MMEngine, which takes long to import
sys.modules['triton'] = None
from mmatconv.ops import dynamic_depthwise_conv2d, reference
x, kernel = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 3, 3)
torch.testing.assert_close(dynamic_depthwise_conv2d(x, kernel), reference(x, kernel))
try:
    dynamic_depthwise_conv2d(x, kernel, path='triton')
except ValueError as error:
    print(error)
"""


def test_runs_without_triton(monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    result = subprocess.run([sys.executable, '-c', WITHOUT_TRITON], capture_output=True, text=True)
    assert result.stdout.startswith("path 'triton' cannot run: Triton cannot be imported"), result.stderr
