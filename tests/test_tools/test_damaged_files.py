"""A damaged file of a data set is named in one sentence, or skipped, counted and named once."""

import logging
import shutil
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from mmatconv.datasets.lmdb_writer import write_lmdb
from mmatconv.engine.checks.damaged_files import SkippedFilesHook, record_of
from mmatconv.engine.cli import options
from mmatconv.engine.cli.error_messages import error_message
from mmatconv.engine.runner.runner import Runner
from mmatconv.errors import UserError


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    'is not an image or is damaged': truncate,
    'is an empty file': lambda path: path.write_bytes(b''),
    'does not exist': lambda path: path.unlink(),
    'is not an image or is damaged ': lambda path: path.write_text('these are words'),
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

    def build(config, name, skip=None, workers=0, tta=False):
        config = Config.fromfile(request.path.parent / 'configs' / config)
        options.register_modules(config)
        init_default_scope(config.default_scope)
        options.set_loader_defaults(config)
        wanted = config[f'{name}_dataloader']
        wanted.num_workers, wanted.skip_corrupt = workers, skip
        if tta:
            wanted.dataset.pipeline = config.tta_pipeline
        return Runner.build_dataloader(wanted, seed=0)

    return build


def images_of(data, config, name):
    ade = {'train': 'training', 'val': 'validation'}[name]
    return sorted(
        {
            'det.py': lambda: (data / 'coco' / name).glob('*.jpg'),
            'seg.py': lambda: (data / 'ade' / 'images' / ade).glob('*.jpg'),
            'cls.py': lambda: (data / 'cls').glob('*/*.png'),
        }[config]()
    )


def sentence(loader):
    with pytest.raises((UserError, RuntimeError)) as caught:
        list(islice(loader, 20))
    return error_message(caught.value)


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_is_named(data, loader, damage):
    path = images_of(data, 'det.py', 'train')[1]
    DAMAGES[damage](path)
    expected = f"'{path}' {damage.strip()}; repair or remove it, or pass --skip-corrupt"
    assert sentence(loader('det.py', 'train')) == expected


@pytest.mark.parametrize('config', ['det.py', 'seg.py', 'cls.py'])
def test_damaged_image_is_named_from_a_data_worker(data, loader, config):
    path = images_of(data, config, 'train')[-1]
    truncate(path)
    assert sentence(loader(config, 'train', workers=2)).startswith(f"'{path}' is not an image or is damaged; ")


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_label_map_is_named(data, loader, damage):
    built = loader('seg.py', 'train')
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
        batch_size=1, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    said = sentence(Runner.build_dataloader(config))
    assert said.startswith(f"'lmdb://{tmp_path}/data.lmdb/light/1.png' is not an image or is damaged; ")


def test_errors_of_sound_files_stay_what_they_are(data, loader):
    built = loader('seg.py', 'train')
    built.dataset.pipeline.transforms[1].transform.reduce_zero_label = False
    with pytest.raises(AssertionError, match='Initialize dataset with'):
        list(islice(built, 20))


def test_unusable_annotations_are_named(data, loader):
    built = loader('det.py', 'train')
    info = built.dataset.get_data_info(0)
    info['instances'][0].pop('bbox_label')
    with pytest.raises(UserError, match=f"'{info['img_path']}' has annotations that cannot be used"):
        built.dataset.pipeline(info)


CONFIGS = ('det.py', 'seg.py', 'cls.py')


@pytest.mark.parametrize('config', CONFIGS)
def test_training_takes_another(data, loader, config):
    path = images_of(data, config, 'train')[1]
    truncate(path)
    built = loader(config, 'train', skip='replace', workers=2 * (config == 'det.py'))
    paths = seen(built)
    assert len(paths) == 8
    assert str(path) not in paths
    assert set(record_of(built.dataset).read_text().splitlines()) == {str(path)}


@pytest.mark.parametrize('config', CONFIGS)
def test_evaluation_leaves_out(data, loader, config):
    path = images_of(data, config, 'val')[1]
    truncate(path)
    built = loader(config, 'val', skip='leave_out')
    whole = [str(image) for image in images_of(data, config, 'val')]
    assert sorted(path for batch in built for path in paths_of(batch)) == [p for p in whole if p != str(path)]


def test_label_maps_of_augmented_evaluation(data, loader):
    """Test-time augmentation loads them in branches of its own."""
    built = loader('seg.py', 'val', tta=True)
    paths = [built.dataset.get_data_info(index)['seg_map_path'] for index in range(5)]
    truncate(Path(paths[1]))
    assert sentence(built).startswith(f"'{paths[1]}' is not an image or is damaged; ")
    shorter = loader('seg.py', 'val', skip='leave_out', tta=True)
    left = [shorter.dataset.get_data_info(index)['seg_map_path'] for index in range(len(shorter.dataset))]
    assert left == [path for path in paths if path != paths[1]]
    assert len(list(shorter)) == 4
    assert record_of(shorter.dataset).read_text().splitlines() == [paths[1]]


def paths_of(batch):
    return [sample.img_path for sample in batch['data_samples']]


def seen(loader):
    """The files of four batches of two, of as many epochs as that takes."""
    batches = chain.from_iterable(loader for _ in range(4))
    return [path for batch in islice(batches, 4) for path in paths_of(batch)]


@pytest.mark.parametrize('value', ['yes', True])
def test_unknown_choice(loader, value):
    with pytest.raises(UserError, match="skip_corrupt of a data loader must be 'replace', 'leave_out' or None, but is"):
        loader('cls.py', 'train', skip=value)


def test_tools_name_and_count(run, data, tmp_path):
    """Through the tools: the names once, the totals and a score without them.

    Two processes read a share each and agree on what is left out.
    """
    damaged = images_of(data, 'det.py', 'train')[0], *images_of(data, 'det.py', 'val')[:2]
    for path in damaged:
        truncate(path)
    settings = ('--cfg-options', 'train_dataloader.num_workers=2', 'train_cfg.max_epochs=3', 'train_cfg.val_interval=3')
    lists = tmp_path / 'tmp'
    lists.mkdir()
    where = dict(cwd=tmp_path, SHAPES=str(data), TMPDIR=str(lists))
    skipped = run('dist_train.sh', 'det.py', 2, '--skip-corrupt', *settings, **where)
    assert skipped.status == 0, skipped.errors
    what = ('another image is used instead', *['it is left out of the evaluation'] * 2)
    for path, consequence in zip(damaged, what):
        assert skipped.output.count(f"'{path}' cannot be read: {consequence}") == 1
    for epoch in (1, 2, 3):
        assert f'Epoch {epoch}: damaged files skipped so far: 1' in skipped.output
    assert 'damaged files left out: 2; the score is over 3 images only' in skipped.output
    assert not list(lists.glob('mmatconv-skipped-*'))


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
    assert caplog.messages[-1] == 'damaged files left out: 1; the score is over 4 images only'
