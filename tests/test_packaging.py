"""`python -m build`, `pip install .` and `pip install -e .` work, bring the configs, and name no distribution."""

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_model

import mmatconv

ROOT = Path(__file__).parents[1]


def run(*command, cwd=None):
    # PYTHONPATH would make the checkout importable everywhere and hide a broken installation.
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=clean_environment())
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def clean_environment():
    return {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A clone, so that building leaves nothing in the working tree."""
    folder = tmp_path_factory.mktemp('clone') / 'mmatconv'
    files = subprocess.check_output(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, text=True).splitlines()
    for name in files:
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    run('git', 'init', '--quiet', cwd=folder)
    run('git', 'add', '--all', cwd=folder)
    return folder


def unstaged(folder):
    """What a build has left behind or changed, as `git status` would show it."""
    return run('git', 'ls-files', '--others', '--modified', '--deleted', '--exclude-standard', cwd=folder)


@pytest.fixture(scope='module')
def built(checkout):
    """Wheel and source distribution, with the back-end of the tested environment instead of a fetched one."""
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', 'dist', cwd=checkout)
    (wheel,) = (checkout / 'dist').glob('*.whl')
    (sdist,) = (checkout / 'dist').glob('*.tar.gz')
    return wheel, sdist


def test_metadata_names_torch_alone_and_every_module_is_there(checkout, built):
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
    modules = {str(path.relative_to(checkout)) for path in (checkout / 'mmatconv').rglob('*.py')}
    assert len(modules) > 100 and modules <= set(names)
    assert not [name for name in names if name.startswith(('tests', 'configs', 'tools'))]


def served_files(folder):
    """What MMEngine and mim look for beside the package: name below .mim -> content."""
    kinds = {'configs': ('.py', '.yml'), 'tools': ('.py', '.sh'), 'weights': ('.md', '.log', '.safetensors')}
    files = [path for top, suffixes in kinds.items() for path in (folder / top).rglob('*') if path.suffix in suffixes]
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*files, folder / 'model-index.yml']}


def test_wheel_and_sdist_hold_configs_and_tools_as_files(checkout, built):
    expected = served_files(checkout)
    assert len(expected) > 100 and served_files(checkout / 'mmatconv' / '.mim') == expected
    wheel, sdist = built
    home = 'mmatconv/.mim/'
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if member.filename.startswith(home)]
        assert not [member for member in members if stat.S_ISLNK(member.external_attr >> 16)]
        found = {member.filename.removeprefix(home): archive.read(member) for member in members}
    assert found == expected
    with tarfile.open(sdist) as archive:
        members = {member.name.partition('/')[2]: member for member in archive.getmembers()}
        found = {name.removeprefix(home): member for name, member in members.items() if name.startswith(home)}
        found = {name: archive.extractfile(member).read() for name, member in found.items() if not member.isdir()}
        assert found == expected and not [member for member in members.values() if member.issym()]
    assert unstaged(checkout) == ''


@pytest.mark.slow
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
    script = tmp_path / 'use.py'
    script.write_text(RESOLVE)
    place, version, config, base = run(python, str(script), cwd=tmp_path).split('\n')[-5:-1]
    assert version == mmatconv.__version__
    assert Path(place).is_relative_to(checkout if options else environment)
    assert Path(config) == Path(place).parent / '.mim' / NAMED.replace('::', '/').replace('mmatconv', 'configs')
    assert base == "mmatconv.AttNet None ['mmdet']"
    if not options:
        train_like_mim(python, Path(place).parent / '.mim', tmp_path)
    assert unstaged(checkout) == ''


def train_like_mim(python, mim, folder):
    """What `mim train mmatconv fpn_attnet-xxs_shapes.py` runs, in a folder that is not a checkout."""
    run(python, mim / 'tools' / 'dataset_tools' / 'make_shapes.py', 'data/shapes', '--train=4', '--val=2', cwd=folder)
    loaders = [
        f'{name}_dataloader.{key}' for name in ('train', 'val') for key in ('num_workers=0', 'persistent_workers=0')
    ]
    length = ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']
    config = mim / 'configs' / 'quickstart' / 'fpn_attnet-xxs_shapes.py'
    command = [python, mim / 'tools' / 'train.py', config, '--launcher', 'none', '--work-dir', 'work']
    run(*command, '--cfg-options', *loaders, *length, cwd=folder)
    assert (folder / 'work' / 'iter_1.pth').is_file()


NAMED = 'mmatconv::mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py'
RESOLVE = f'''
from pathlib import Path
import mmatconv
from mmengine.config import Config
from mmengine.hub import get_config

Path('mine.py').write_text("""
_base_ = '{NAMED}'
train_pipeline = _base_.train_pipeline
optimizer = _base_.optim_wrapper.optimizer
""")
mine = Config.fromfile('mine.py')
print(mmatconv.__file__)
print(mmatconv.__version__)
print(get_config('{NAMED}').filename)
print(mine.model.backbone.type, mine.optimizer.get('_scope_'), sorted({{x._scope_ for x in mine.train_pipeline}}))
'''


def test_configs_of_a_checkout_resolve_whatever_is_installed(tmp_path):
    script = tmp_path / 'use.py'
    script.write_text(RESOLVE)
    for name, content in {
        'mmatconv/__init__.py': '',
        'mmatconv-0.0.1.dist-info/METADATA': 'Metadata-Version: 2.1\nName: mmatconv\nVersion: 0.0.1\n',
        'mmatconv-0.0.1.dist-info/top_level.txt': 'mmatconv\n',
    }.items():
        path = tmp_path / 'installed' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    environment = {**clean_environment(), 'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path / 'installed')])}
    output = subprocess.check_output([sys.executable, str(script)], cwd=tmp_path, env=environment, text=True)
    assert output.splitlines()[-2] == str(ROOT / 'mmatconv' / '.mim' / 'configs' / NAMED.partition('::')[2])


@pytest.mark.parametrize(
    ('name', 'kind', 'parameters'),
    [
        ('mask_rcnn/mask-rcnn_attnet-xxs_fpn_1x_coco.py', 'MaskRCNN', 22_637_052),
        ('sem_fpn/fpn_attnet-xxs_8xb4-40k_ade20k-512x512.py', 'EncoderDecoder', 6_736_290),
        ('imagenet/attnet-xxs_32xb128_in1k.py', 'ImageClassifier', 2_853_556),
    ],
)
def test_hub_builds_models(name, kind, parameters):
    model = get_model(f'mmatconv::{name}')
    assert type(model).__name__ == kind
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize('name', ['imagenet/attnet-t2_32xb128_in1k.py', NAMED.partition('::')[2]])
def test_inheriting_by_name_is_inheriting_by_path(tmp_path, name):
    """A scope 'mmatconv' in a config would send its types to a registry that does not exist."""
    configs = []
    for base in (f'mmatconv::{name}', str(ROOT / 'configs' / name)):
        mine = 'model = dict(backbone=dict(with_cp=True))\ncopy = _base_.model\nhooks = _base_.default_hooks\n'
        (tmp_path / 'mine.py').write_text(f'_base_ = {base!r}\n{mine}')
        configs.append(Config.fromfile(tmp_path / 'mine.py'))
    assert configs[0].to_dict() == configs[1].to_dict()
    assert configs[0].model.backbone.with_cp is True
    assert "'_scope_': 'mmatconv'" not in str(configs[0].to_dict())
