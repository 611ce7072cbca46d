"""`python -m build`, `pip install .` and `pip install -e .` work, and name neither OpenMMLab distribution."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import mmatconv

ROOT = Path(__file__).parents[1]


def run(*command, cwd=None):
    # PYTHONPATH would make the checkout importable everywhere and hide a broken installation.
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=clean_environment())
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def clean_environment():
    import os

    return {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A clone, so that building leaves nothing in the working tree."""
    folder = tmp_path_factory.mktemp('clone') / 'mmatconv'
    files = subprocess.check_output(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, text=True).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope='module')
def built(checkout):
    """Wheel and source distribution, with the back-end of the tested environment instead of a fetched one."""
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', 'dist', cwd=checkout)
    (wheel,) = (checkout / 'dist').glob('*.whl')
    (sdist,) = (checkout / 'dist').glob('*.tar.gz')
    return wheel, sdist


def test_metadata_names_torch_alone(built):
    wheel, sdist = built
    assert sdist.stat().st_size > 0
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith('METADATA')]
        message = Parser().parsestr(archive.read(metadata).decode())
    assert message['Version'] == mmatconv.__version__
    requirements = message.get_all('Requires-Dist')
    assert [line for line in requirements if 'extra ==' not in line] == ['torch']
    assert {'onedl', 'openmmlab', 'test'} <= set(message.get_all('Provides-Extra'))
    assert any(line.startswith('onedl-mmcv') and 'onedl' in line.split('extra ==')[1] for line in requirements)
    assert any(line.startswith('mmcv') and 'openmmlab' in line.split('extra ==')[1] for line in requirements)
    assert {'mmatconv/ops/grouped.py', 'mmatconv/engine/launch.py'} <= set(names)
    assert not [name for name in names if name.startswith(('tests', 'configs', 'tools'))]


@pytest.mark.parametrize('options', [[], ['--editable']])
def test_pip_installs_it(checkout, tmp_path, options):
    environment = tmp_path / 'env'
    run(sys.executable, '-m', 'venv', '--system-site-packages', '--without-pip', str(environment))
    # A virtual environment does not see the packages of the virtual environment it is made from.
    (pure,) = (environment / 'lib').glob('python*/site-packages')
    packages = Path(pytest.__file__).parents[1]
    (pure / 'tested.pth').write_text(f'{packages}\n')
    python = str(environment / 'bin' / 'python')
    run(python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation', *options, str(checkout))
    output = run(python, '-c', 'import mmatconv; print(mmatconv.__file__, mmatconv.__version__)', cwd=tmp_path)
    place, version = output.split()
    assert version == mmatconv.__version__
    assert Path(place).is_relative_to(checkout if options else environment)
