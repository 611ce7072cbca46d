"""tools/mmcv_units.py: every source in one unit, those that cannot share one apart, nothing left for setup.py."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'mmcv_units.py'
APART = ('bezier_align', 'roi_align', 'roi_align_rotated', 'rotated_feature_align')


@pytest.fixture
def csrc(tmp_path):
    """Folders and names as in mmcv, each file as large as its number says."""
    folder = tmp_path / 'mmcv' / 'ops' / 'csrc' / 'pytorch'
    names = [f'{op}.cpp' for op in APART] + [f'op_{i}.cpp' for i in range(30)]
    names += [f'cpu/{op}.cpp' for op in (*APART, 'psamask')] + [f'cuda/op_{i}_cuda.cu' for i in range(20)]
    names += ['cuda/cudabind.cpp', 'spconv_utils.h', 'mlu/op_mlu.cpp']
    for number, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('/' * number * 10)
    return folder


def clashing():
    spec = importlib.util.spec_from_file_location('mmcv_units', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.CLASHING


def gather(csrc, *options):
    before = sorted(path.read_text() for path in csrc.rglob('*') if path.is_file())
    subprocess.run([sys.executable, TOOL, csrc.parents[3], *options], check=True)
    units = {}
    for unit in csrc.rglob('unit_*'):
        files = re.findall(r'#include "(.+)"', unit.read_text())
        units[unit.relative_to(csrc).as_posix()] = [(unit.parent / file).resolve() for file in files]
    assert all(file.is_file() for files in units.values() for file in files)
    kept = [path for path in csrc.rglob('*') if path.is_file() and not path.name.startswith('unit_')]
    assert sorted(path.read_text() for path in kept) == before
    return units


def test_each_source_is_in_one_unit_and_nowhere_else(csrc):
    sources = [path.name for pattern in ('*.cpp', 'cpu/*.cpp') for path in csrc.glob(pattern)]
    units = gather(csrc)
    assert sorted(file.name for files in units.values() for file in files) == sorted(sources)
    assert sorted(units) == ['unit_1.cpp', 'unit_2.cpp', 'unit_3.cpp', 'unit_4.cpp']
    assert sorted(path.name for path in csrc.glob('*.cpp')) == sorted(units)
    assert not list(csrc.glob('cpu/*.cpp')) and len(list(csrc.glob('cuda/*'))) == 21
    sizes = [sum(file.stat().st_size for file in files) for files in units.values()]
    assert max(sizes) < 1.1 * min(sizes)


def test_clashing_sources_are_apart_and_macros_come_last(csrc):
    for files in gather(csrc).values():
        cpu = [file.stem for file in files if file.parent.name.endswith('cpu')]
        assert len(set(cpu) & set(APART)) == 1
        assert 'psamask' not in cpu or files[-1].stem == 'psamask'


def test_clashing_cuda_sources_are_apart(csrc):
    groups = [{Path(name).name for name in group} for group in clashing() if any(name[:5] == 'cuda/' for name in group)]
    assert len(groups) > 3
    for name in set().union(*groups):
        (csrc / 'cuda' / name).write_text('/' * 700)
    units = {name: files for name, files in gather(csrc, '--cuda').items() if name.startswith('cuda/')}
    assert 8 <= len(units) <= 10
    for files in units.values():
        assert all(len(group & {file.name for file in files}) <= 1 for group in groups)


def test_cuda_sources_are_gathered_on_demand(csrc):
    sources = {path.name for path in csrc.glob('cuda/*.cu')}
    units = {name: files for name, files in gather(csrc, '--cuda').items() if name.startswith('cuda/')}
    assert {file.name for files in units.values() for file in files} == sources
    assert {path.name for path in csrc.glob('cuda/*')} == {'cudabind.cpp', *(Path(name).name for name in units)}
    # '../spconv_utils.h' means the same file as before.
    assert {file.parent.parent for files in units.values() for file in files} == {csrc.resolve()}
