"""Which path is taken, how one is forced, and the fallback."""

import subprocess
import sys
import types
import warnings

import pytest
import torch

from mmatconv import UserError
from mmatconv.ops import dynamic_depthwise_conv2d, paths, reference
from mmatconv.ops.context_to_kernel.function import context_pool
from mmatconv.ops.glu.gelu_mul import gelu_mul


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 5, 4, generator=generator), torch.randn(2, 3, 3, 3, generator=generator)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(paths, '_refused', {})
    monkeypatch.setattr(paths, '_warned', set())
    monkeypatch.setattr(paths, '_modules', {})
    monkeypatch.delenv(paths.VARIABLE, raising=False)
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)


@pytest.fixture
def taken(monkeypatch):
    """The paths that ran."""
    names = []
    module = sys.modules['mmatconv.ops.dynamic_conv.function']
    for name in ('grouped', 'reference'):
        original = getattr(module, name)

        def spy(*args, name=name, original=original):
            names.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, spy)
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
    x = case[0]
    for call in (
        lambda: dynamic_depthwise_conv2d(*case, path='triton'),
        lambda: gelu_mul(x, x, 'triton'),
        lambda: context_pool(x, 3, True, 'triton'),
    ):
        with pytest.raises(UserError, match=r'^path .triton. cannot run: its input is on cpu'):
            call()


@pytest.mark.newer_torch
@pytest.mark.parametrize(
    ('size', 'dtype', 'named'), [(9, torch.float32, 'kernel size is 9'), (3, torch.float8_e5m2, 'torch.float8_e5m2')]
)
def test_forced_triton_names_what_it_lacks(size, dtype, named, monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    with pytest.raises(UserError, match=named):
        dynamic_depthwise_conv2d(
            torch.zeros(1, 1, 4, 4, dtype=dtype), torch.zeros(1, 1, size, size, dtype=dtype), 'triton'
        )


class OnGPU:
    """A stand-in for the input's device, as far as the choice of the path looks at it."""

    device = torch.device('cuda', 0)
    is_cuda = True

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype


@pytest.mark.parametrize('variable', ['', 'triton', 'grouped', 'reference'])
def test_the_choice_follows_device_and_variable(variable, case, monkeypatch):
    monkeypatch.setenv(paths.VARIABLE, variable)
    assert paths.choose(OnGPU()) == (variable or 'auto')
    assert paths.choose(case[0]) == (variable or 'grouped')
    assert paths.takes_triton(paths.choose(OnGPU())) == (variable in ('', 'triton'))
    monkeypatch.setenv(paths.VARIABLE, 'not read')
    for path in paths.PATHS:
        assert paths.choose(OnGPU(), paths.choose(OnGPU(), path)) == path


def in_triton(error):
    """A function that raises the error as from a module of Triton."""
    module = types.ModuleType('triton.compiler.stand_in')
    exec('def fail(error):\n    raise error', vars(module))
    return lambda: module.fail(error)


def of_c_compiler():
    module = types.ModuleType('triton.runtime.stand_in')
    exec('import subprocess, sys\ndef fail():\n    subprocess.check_call([sys.executable, "-c", "1/0"])', vars(module))
    return module.fail


def named_as_of_triton():
    kind = type('CompilationError', (Exception,), {'__module__': 'triton.compiler.errors'})
    raise kind('no such operation')


def attempt(fail, path='auto', dtype=torch.float32, variant=None):
    """Run launches that fail, as on a GPU: what computed, and the warnings."""
    result = 'torch'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with paths.TritonLaunches('glu', OnGPU(dtype), path, variant) as launches:
            if launches is not None:
                fail()
                result = 'triton'
    return result, [str(warning.message) for warning in caught]


WARNING = 'The Triton kernels of the gated linear unit cannot run, torch computes instead: '


@pytest.mark.newer_torch
def test_runs_on_triton_where_it_can():
    assert attempt(lambda: None) == ('triton', [])
    assert attempt(lambda: None, 'grouped') == ('torch', [])


@pytest.mark.newer_torch
@pytest.mark.parametrize(
    ('fail', 'named'),
    [
        (in_triton(RuntimeError('Failed to find C compiler.\nand more')), 'RuntimeError: Failed to find C compiler.'),
        (of_c_compiler(), 'CalledProcessError: '),
        (named_as_of_triton, 'CompilationError: no such operation'),
    ],
)
def test_failures_of_triton_fall_back_with_one_warning_for_each_cause(fail, named):
    result, messages = attempt(fail)
    assert result == 'torch' and len(messages) == 1 and messages[0].startswith(WARNING + named)
    # What failed is not tried again; another case is, and fails for a cause that was named.
    assert attempt(lambda: pytest.fail('tried again')) == ('torch', [])
    assert attempt(fail, dtype=torch.float16) == ('torch', [])
    assert attempt(lambda: None, variant=5) == ('triton', [])
    with pytest.raises(Exception, match=named.partition(': ')[2][:20]):
        attempt(fail, 'triton')


@pytest.mark.newer_torch
@pytest.mark.parametrize(
    ('kind', 'fail'),
    [
        (RuntimeError, in_triton(RuntimeError('Triton Error [CUDA]: an illegal memory access was encountered'))),
        (RuntimeError, in_triton(RuntimeError('CUDA error: device-side assert triggered'))),
        (torch.cuda.OutOfMemoryError, in_triton(torch.cuda.OutOfMemoryError('full'))),
        (TypeError, in_triton(TypeError('kernel() missing 1 required positional argument'))),
        (RuntimeError, lambda: torch.zeros(2) @ torch.zeros(3)),
        (AttributeError, lambda: paths.not_there),
        (ImportError, lambda: exec('from mmatconv.ops.paths import not_there')),
    ],
)
@pytest.mark.parametrize('path', ['auto', 'triton'])
def test_everything_else_is_raised(path, kind, fail):
    with pytest.raises(kind):
        attempt(fail, path)
    assert attempt(lambda: None) == ('triton', [])


@pytest.mark.newer_torch
@pytest.mark.parametrize(('name', 'missing'), [('triton', True), ('triton.language', True), ('mmatconv.ops', False)])
def test_only_a_missing_triton_is_forgiven(name, missing, monkeypatch):
    def import_module(module):
        raise ImportError(f'cannot import {module}', name=name)

    monkeypatch.setattr(paths, 'import_module', import_module)
    if missing:
        result, messages = attempt(lambda: None)
        assert result == 'torch' and messages == [
            f'{WARNING}Triton cannot be imported (cannot import mmatconv.ops.glu.triton_launch)'
        ]
    else:
        with pytest.raises(ImportError, match='triton_launch'):
            attempt(lambda: None)


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
