"""A damaged file of a data set is named in one sentence, or skipped, counted and named once."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from mmatconv.datasets.lmdb_folder import write_lmdb
from mmatconv.engine import options
from mmatconv.engine.damaged_files import SkippedFilesHook, record_of
from mmatconv.engine.report import sentence_of
from mmatconv.engine.runner import Runner
from mmatconv.errors import UserError


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    'is no image or is damaged': truncate,
    'is an empty file': lambda path: path.write_bytes(b''),
    'does not exist': lambda path: path.unlink(),
    'is no image or is damaged ': lambda path: path.write_text('these are words'),
}


@pytest.fixture
def data(shapes, tmp_path, monkeypatch):
    """A copy of the generated images that may be damaged."""
    copy = tmp_path / 'data'
    shutil.copytree(shapes, copy)
    monkeypatch.setenv('SHAPES', str(copy))
    return copy


@pytest.fixture
def loader(data, request):
    """Builds a data loader of a test config."""

    def build(config, name, skip=None, workers=0):
        config = Config.fromfile(request.path.parent / 'configs' / config)
        options.register_modules(config)
        init_default_scope(config.default_scope)
        options.set_loader_defaults(config)
        wanted = config[f'{name}_dataloader']
        wanted.num_workers, wanted.skip_corrupt = workers, skip
        return Runner.build_dataloader(wanted, seed=0)

    return build


def images_of(data, config, name):
    split = {'train': 'train', 'val': 'val'}[name]
    return sorted(
        {
            'det.py': lambda: (data / 'coco' / split).glob('*.jpg'),
            'seg.py': lambda: (data / 'ade' / 'images' / split).glob('*.jpg'),
            'cls.py': lambda: (data / 'cls').glob('*/*.png'),
        }[config]()
    )


def sentence(loader):
    with pytest.raises((UserError, RuntimeError)) as caught:
        list(loader)
    return sentence_of(caught.value)


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_image_is_named_from_a_data_worker(data, loader, damage):
    path = images_of(data, 'det.py', 'train')[1]
    DAMAGES[damage](path)
    expected = f"'{path}' {damage.strip()}; mend or remove it, or call the tool with --skip-corrupt"
    assert sentence(loader('det.py', 'train', workers=2)) == expected


@pytest.mark.parametrize('config', ['seg.py', 'cls.py'])
def test_damaged_image_is_named(data, loader, config):
    path = images_of(data, config, 'train')[-1]
    truncate(path)
    assert sentence(loader(config, 'train')).startswith(f"'{path}' is no image or is damaged; ")


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_label_map_is_named(data, loader, damage):
    built = loader('seg.py', 'train', workers=2)
    path = built.dataset.get_data_info(0)['seg_map_path']
    DAMAGES[damage](Path(path))
    assert sentence(built).startswith(f"'{path}' {damage.strip()}; ")


def test_damaged_image_in_an_lmdb_is_named(data, tmp_path):
    truncate(data / 'cls' / 'light' / '1.png')
    write_lmdb(data / 'cls', tmp_path / 'data.lmdb')
    init_default_scope('mmpretrain')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_root='', data_prefix=f'lmdb://{tmp_path}/data.lmdb', pipeline=pipeline)
    config = ConfigDict(
        batch_size=1, num_workers=2, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    said = sentence(Runner.build_dataloader(config))
    assert said.startswith(f"'lmdb://{tmp_path}/data.lmdb/light/1.png' is no image or is damaged; ")


def test_errors_of_sound_files_stay_what_they_are(data, loader):
    built = loader('seg.py', 'train')
    built.dataset.pipeline.transforms[1].transform.reduce_zero_label = False
    with pytest.raises(AssertionError, match='Initialize dataset with'):
        list(built)


def test_unusable_annotations_are_named(data, loader):
    built = loader('det.py', 'train')
    info = built.dataset.get_data_info(0)
    info['instances'][0].pop('bbox_label')
    with pytest.raises(UserError, match=f"'{info['img_path']}' has annotations that cannot be used"):
        built.dataset.pipeline(info)


@pytest.mark.parametrize('config', ['det.py', 'seg.py', 'cls.py'])
def test_training_takes_another_and_evaluation_leaves_out(data, loader, config):
    for name in ('train', 'val'):
        path = images_of(data, config, name)[1]
        truncate(path)
        built = loader(config, name, skip='replace' if name == 'train' else 'leave_out', workers=2 * (name == 'train'))
        size = len(built.dataset)
        if name == 'train':
            paths = [str(images) for _, images in zip(range(6), seen(built, epochs=3))]
            assert str(path) not in paths
            assert set(record_of(built.dataset).read_text().splitlines()) == {str(path)}
        else:
            paths = list(seen(built))
            assert len(paths) == size == len(images_of(data, config, name)) - (2 if config == 'cls.py' else 1)
            assert str(path) not in paths


def seen(loader, epochs=1):
    iterator = iter(loader)
    for _ in range(epochs * len(loader)):
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(loader)
            batch = next(iterator)
        yield from (sample.img_path for sample in batch['data_samples'])


@pytest.mark.parametrize('value', ['yes', True])
def test_unknown_choice(loader, value):
    with pytest.raises(UserError, match="skip_corrupt of a data loader must be 'replace', 'leave_out' or None, but is"):
        loader('cls.py', 'train', skip=value)


def test_tools_name_and_count(run, data, tmp_path):
    """Through the tools: an error, then with --skip-corrupt the names once, the totals and a score without them."""
    damaged = images_of(data, 'det.py', 'train')[0], images_of(data, 'det.py', 'val')[0]
    for path in damaged:
        truncate(path)
    settings = ('--cfg-options', 'train_dataloader.num_workers=2', 'train_cfg.max_epochs=3', 'train_cfg.val_interval=3')
    failed = run('train.py', 'det.py', *settings, cwd=tmp_path, SHAPES=str(data))
    assert failed.status == 1
    assert failed.sentence.startswith(f"'{damaged[0]}' is no image or is damaged; ")

    skipped = run('train.py', 'det.py', '--skip-corrupt', *settings, cwd=tmp_path, SHAPES=str(data))
    assert skipped.status == 0, skipped.errors
    for path, what in zip(damaged, ('another is taken in its place', 'it is left out of the evaluation')):
        assert skipped.output.count(f"'{path}' cannot be read: {what}") == 1
    assert skipped.output.count('1 damaged files skipped in training so far') == 3
    assert '1 damaged files left out: the score is over 4 images only' in skipped.output


def test_score_is_over_what_is_left(data, loader, caplog):
    """COCO's metric would count the objects of the other images as missed."""
    truncate(images_of(data, 'det.py', 'val')[0])
    built = loader('det.py', 'val', skip='leave_out')
    metric = SimpleNamespace(img_ids=None)
    runner = SimpleNamespace(
        val_dataloader=built, val_evaluator=SimpleNamespace(metrics=[metric]), logger=logging.getLogger('test')
    )
    SkippedFilesHook().before_val(runner)
    assert metric.img_ids == [2, 3, 4, 5]
    assert caplog.messages[-1] == '1 damaged files left out: the score is over 4 images only'
