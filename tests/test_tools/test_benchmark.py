"""benchmark.py as a user runs it, on cases of a few milliseconds."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmatconv.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools' / 'benchmark.py'

# Operators, token mixers and backbones are timed with torch and MMEngine alone.
WITHOUT_OPENMMLAB = """
import runpy, sys
sys.modules.update(dict.fromkeys(['mmcv', 'mmdet', 'mmseg', 'mmpretrain']))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def benchmark(environment):
    """Runs the tool where mmcv, mmdet and mmseg cannot be imported: exit status, output, errors."""

    def call(*args, cwd):
        command = [sys.executable, '-c', WITHOUT_OPENMMLAB, str(TOOL), *map(str, args)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return call


def load_tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_operators_with_json_and_plot(benchmark, tmp_path):
    args = ['--level', 'operator', '--mode', 'forward', 'backward', '--size', 8, '--size', 12, 20, '--batch', 2]
    args += ['--channels', 4, '--repeats', 3, '--threads', 1, '--json', 'a.json', '--plot', 'a.png']
    status, output, errors = benchmark(*args, cwd=tmp_path)
    assert status == 0, errors
    found = json.loads((tmp_path / 'a.json').read_text())
    assert found['command'] == ' '.join(['python tools/analysis_tools/benchmark.py', *map(str, args)])
    assert found['command'].split()[-1] in output and '1 of 8: operator' in errors
    assert found['machine']['threads'] == 1 and found['machine']['cpu'] in output
    assert found['versions']['torch'] in output and found['linear_cost'] == []
    cases = [(case['mode'], case['memory_format'], case['size']) for case in found['cases']]
    assert cases == [
        (mode, memory_format, size)
        for mode in ('forward', 'backward')
        for memory_format in ('contiguous', 'channels_last')
        for size in ([8, 8], [12, 20])
    ]
    for case in found['cases']:
        entries = {entry['name']: entry for entry in case['results']}
        assert list(entries) == ['ours', 'grouped', 'unfold', 'static', 'copy'] and case['reference'] == 'grouped'
        assert entries['ours']['error'] < 1e-5 and entries['unfold']['error'] < 1e-5
        assert entries['copy']['share_of_copy'] == 1 and entries['grouped']['speed'] == 1
        map_bytes = 4 * 2 * 4 * case['size'][0] * case['size'][1]
        for name, entry in entries.items():
            passes = 5 if case['mode'] == 'backward' and name != 'copy' else 2
            assert len(entry['readings']) == 3 and entry['p10'] <= entry['median'] <= entry['p90']
            assert entry['speed'] == pytest.approx(entries['grouped']['median'] / entry['median'])
            assert entry['bandwidth'] == pytest.approx(passes * map_bytes / entry['median'])
            assert entry['peak_bytes'] >= entry['held_bytes'] >= map_bytes
        assert entries['unfold']['memory'] > 2
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_backbone_with_check(benchmark, tmp_path):
    args = ['--level', 'backbone', '--models', 'attnet-xxs', '--size', 32, 64, '--fold', '--mask-padding', '--check']
    status, output, errors = benchmark(*args, '--repeats', 1, '--warmup', 1, '--json', 'a.json', cwd=tmp_path)
    assert status == 0, errors
    found = json.loads((tmp_path / 'a.json').read_text())
    assert [case['size'] for case in found['cases']] == [[32, 64], [64, 128]]
    names = ['ours', 'folded', 'masked-whole', 'masked-padded', 'released', 'static']
    assert [entry['name'] for entry in found['cases'][0]['results']] == names
    assert [growth['name'] for growth in found['linear_cost']] == names
    small, large = (case['results'][0]['median'] for case in found['cases'])
    growth = found['linear_cost'][0]
    assert growth['ratio'] == pytest.approx(large / small / 4)
    assert growth['linear'] == (abs(growth['ratio'] - 1) <= 0.1)
    assert 'within 10 %' in output


def test_traffic_without_triton(environment, tmp_path):
    script = WITHOUT_OPENMMLAB.replace("['mmcv', ", "['triton', 'mmcv', ")
    args = ['--level', 'traffic', '--models', 'attnet-xxs', '--size', '64', '96', '--json', 'a.json']
    command = [sys.executable, '-c', script, str(TOOL), *args]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'traffic: attnet-xxs, forward + backward, 2 x 3 x 64 x 96, bfloat16, contiguous' in done.stdout
    (case,) = json.loads((tmp_path / 'a.json').read_text())['cases']
    ours, released, static = case['results']
    assert [entry['name'] for entry in (ours, released, static)] == ['ours', 'released', 'static']
    blocks = 10
    forward, backward = ours['forward']['launches'], ours['backward']['launches']
    assert forward['convolve_kernel'] == forward['pool_kernel'] == backward['gradients_kernel'] == blocks
    # Two blocks for each stage and two more in the third, each map read and written once in half precision.
    maps = 2 * 32 * 16 * 24 + 2 * 64 * 8 * 12 + 4 * 128 * 4 * 6 + 2 * 240 * 2 * 3
    kernels = 2 * 2 * 9 * sum(depth * dim for depth, dim in zip((2, 2, 4, 2), (32, 64, 128, 240)))
    moved = ours['forward']['bytes']['convolve_kernel'] - 2 * 2 * 2 * maps
    assert moved in (kernels, 2 * kernels)  # in half precision or not
    assert 'convolve_kernel' not in {**released['forward']['launches'], **static['forward']['launches']}
    assert released['forward']['launches']['convolution'] == blocks * 7 + 5
    assert static['saved_bytes'] < ours['saved_bytes']


def test_host(benchmark, tmp_path):
    args = [
        '--level',
        'host',
        '--models',
        'attnet-xxs',
        '--size',
        32,
        '--repeats',
        1,
        '--warmup',
        1,
        '--json',
        'a.json',
    ]
    status, output, errors = benchmark(*args, cwd=tmp_path)
    assert status == 0, errors
    assert 'host: attnet-xxs, forward + backward, 2 x 3 x 32 x 32, bfloat16, contiguous' in output
    (case,) = json.loads((tmp_path / 'a.json').read_text())['cases']
    ours, released, _ = case['results']
    calls = {operator['name']: operator['calls'] for operator in ours['operators']}
    assert calls['Convolve, forward'] == calls['Convolve, backward'] == 10
    assert ours['step'] > sum(operator['seconds'] for operator in ours['operators']) > 0
    assert all(0 < operator['in_a_row'] for operator in ours['operators'])
    assert released['operators'] == []


@pytest.mark.parametrize(
    ('args', 'sentence'),
    [
        (['--level', 'backbone', '--models', 'resnet'], "no model 'resnet' at this level; choose from attnet-xxs, "),
        (['--level', 'neck'], "invalid choice: 'neck'"),
        (['--level', 'block', '--device', 'cuda'], '--device cuda needs a GPU, but torch sees none'),
        (['--level', 'detector'], '--level detector needs mmcv, mmdet, mmseg, which cannot be found'),
    ],
)
def test_mistakes_are_one_sentence(benchmark, tmp_path, args, sentence):
    status, output, errors = benchmark(*args, cwd=tmp_path)
    lines = [line for line in errors.splitlines() if 'error: ' in line]
    assert status == 1 and len(lines) == 1 and sentence in lines[0]
    assert 'Traceback' not in output + errors and '\n' not in lines[0]


@pytest.mark.parametrize(
    ('args', 'sentence'),
    [
        (['--level', 'operator', '--mode', 'step'], '--mode step does not exist at this level; choose from forward'),
        (['--level', 'backbone', '--mode', 'step', '--fold'], '--fold is for inference, but --mode is step'),
        (
            ['--level', 'detector', '--models', 'yolo'],
            "no model 'yolo' at this level; choose from mask-rcnn_atconv-",
        ),
        (['--level', 'operator', '--models', 'fast', '--size', '8'], "no candidate 'fast'; choose from ours, grouped"),
        (['--level', 'traffic', '--mode', 'step'], '--mode does not exist at level traffic; leave it out'),
        (['--level', 'host', '--models', 'resnet'], "no model 'resnet' at this level; choose from attnet-xxs, "),
        (['--level', 'block', '--size', '8', '8', '8'], "--size '8 8 8' is not a size"),
        (['--level', 'block', '--size', '-8'], '--size'),
        (['--level', 'block', '--batch', '0'], "'0' is not a positive whole number"),
        (['--level', 'block', '--json', 'there.json'], "--json 'there.json' exists already"),
        (['--level', 'block', '--plot', 'there.pdf'], "--plot 'there.pdf' must end in .png"),
        (['--level', 'block', '--plot', 'no/there.png'], "folder 'no' does not exist"),
    ],
)
def test_mistakes(monkeypatch, tmp_path, args, sentence):
    (tmp_path / 'there.json').write_text('{}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *args])
    tool = load_tool()
    with pytest.raises(UserError) as error:
        tool.main(None)
    assert sentence in str(error.value) and '\n' not in str(error.value)
    assert (tmp_path / 'there.json').read_text() == '{}'


def test_wrong_results_end_the_tool_without_a_table(monkeypatch, tmp_path, capsys):
    from mmatconv.analysis.benchmark import operators

    monkeypatch.setattr(operators, 'dynamic_depthwise_conv2d', lambda x, kernel: operators.grouped(x, kernel) + 1)
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--level', 'operator', '--size', '8', '--json', 'a.json'])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match='no speed is reported on wrong results'):
        load_tool().main(None)
    assert capsys.readouterr().out == '' and not (tmp_path / 'a.json').exists()
