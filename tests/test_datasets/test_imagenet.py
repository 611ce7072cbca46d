"""ImageNet from class folders and from LMDB gives the same samples; the command that writes the LMDB loses nothing."""

import importlib.util
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import lmdb
import numpy as np
import pytest
import torch
from mmengine import fileio
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader

import mmatconv.datasets.imagenet as imagenet
from mmatconv.datasets import lmdb_backend
from mmatconv.datasets.lmdb_backend import split_uri, uri
from mmatconv.datasets.lmdb_writer import write_lmdb
from mmatconv.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_tools' / 'make_imagenet_lmdb.py'
# In the order of mmpretrain's class folders; 'n1' tells sorting by bytes from sorting by folder ('n1-b' < 'n1/a').
CLASSES = ('n1', 'n1-b', 'n2')
FILES = ('n1/b.JPEG', 'n1/a.JPEG', 'n1/deep/c.png', 'n1-b/x.jpeg', 'n2/n2_10.JPEG', 'n2/n2_9.JPEG')
LABELS = {'n1': 0, 'n1-b': 1, 'n2': 2}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """A data root with the folder train only."""
    root = tmp_path_factory.mktemp('imagenet')
    rng = np.random.default_rng(0)
    for number, name in enumerate(FILES):
        path = root / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    (root / 'train' / 'n1' / 'notes.txt').write_text('no image')
    return root


@pytest.fixture(scope='module')
def packed(folders, tmp_path_factory):
    """A data root with train.lmdb only."""
    root = tmp_path_factory.mktemp('packed')
    assert write_lmdb(folders / 'train', root / 'train.lmdb') == len(FILES)
    return root


@pytest.fixture
def command():
    """The command's main function, in this process."""
    spec = importlib.util.spec_from_file_location('make_imagenet_lmdb_under_test', TOOL)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module.main


def build(root, **options):
    import mmpretrain.datasets  # noqa: F401

    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    config = dict(type='mmatconv.datasets.ImageNet', data_root=str(root), split='train', pipeline=pipeline)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build({**config, 'classes': list(CLASSES), **options})


def key_of(sample, root):
    return sample['data_samples'].img_path.split(f'{root}/train')[1].removeprefix('.lmdb').lstrip('/')


def assert_same(ours, theirs, our_root, their_root):
    assert len(ours) == len(theirs) == len(FILES)
    for mine, other in zip(ours, theirs):
        assert torch.equal(mine['inputs'], other['inputs'])
        assert mine['data_samples'].gt_label.item() == other['data_samples'].gt_label.item()
        assert key_of(mine, our_root) == key_of(other, their_root)


def test_folder_and_lmdb_give_the_same_samples(folders, packed):
    folder, database = build(folders), build(packed)
    assert folder.metainfo == database.metainfo
    assert folder.folder_to_idx == database.folder_to_idx == LABELS
    samples = [folder[i] for i in range(len(folder))]
    assert_same([database[i] for i in range(len(database))], samples, packed, folders)
    # What mmpretrain itself makes of the folder.
    theirs = build(folders, type='ImageNet')
    assert_same(samples, [theirs[i] for i in range(len(theirs))], folders, folders)
    assert [key_of(s, folders).split('/')[0] for s in samples] == ['n1'] * 3 + ['n1-b'] + ['n2'] * 2


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_read_what_the_first_process_has_opened(folders, packed, method):
    folder, database = build(folders), build(packed)
    assert database[0]['inputs'].shape == (3, 21, 30)
    workers = {'fork': 2, 'spawn': 1}[method]
    loader = DataLoader(
        database, batch_size=1, num_workers=workers, collate_fn=pseudo_collate, multiprocessing_context=method
    )
    samples = [dict(inputs=b['inputs'][0], data_samples=b['data_samples'][0]) for b in loader]
    assert_same(samples, [folder[i] for i in range(len(folder))], packed, folders)


def read_in_child(path, queue):
    data = fileio.get(path)
    queue.put((os.getpid(), lmdb_backend._owner, list(lmdb_backend._environments), data))


def test_a_forked_process_opens_the_file_itself(packed, tmp_path):
    (tmp_path / 'other.lmdb').write_bytes((packed / 'train.lmdb' / 'data.mdb').read_bytes())
    path = uri(packed / 'train.lmdb/n2/n2_9.JPEG')
    content = fileio.get(path)
    assert fileio.get(uri(tmp_path / 'other.lmdb/n2/n2_9.JPEG')) == content
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    child = context.Process(target=read_in_child, args=(path, queue))
    child.start()
    pid, owner, opened, data = queue.get()
    child.join()
    assert (pid, owner, data) == (child.pid, child.pid, content)
    # What the parent had opened besides is not there.
    assert opened == [str(packed / 'train.lmdb')]
    assert child.exitcode == 0
    assert lmdb_backend._owner == os.getpid() and fileio.get(path) == content


def test_lmdb_goes_before_the_folder_and_the_log_says_so(folders, packed, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(imagenet, 'print_log', lambda message, logger: said.append(message))
    (tmp_path / 'train').symlink_to(folders / 'train')
    assert build(tmp_path)[0]['data_samples'].img_path == f'{tmp_path}/train/n1/a.JPEG'
    (tmp_path / 'train.lmdb').symlink_to(packed / 'train.lmdb')
    assert build(tmp_path)[0]['data_samples'].img_path == f'lmdb://{tmp_path}/train.lmdb/n1/a.JPEG'
    assert said == [
        f'ImageNet: images are read from {tmp_path}/train',
        f'ImageNet: images are read from lmdb://{tmp_path}/train.lmdb',
    ]


def test_annotation_file_with_lmdb(packed, tmp_path):
    (tmp_path / 'train.lmdb').symlink_to(packed / 'train.lmdb')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'train.txt').write_text('n2/n2_9.JPEG 7\nn1/deep/c.png 1\n')
    dataset = build(tmp_path)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))] == [7, 1]
    assert dataset[1]['inputs'].shape == (3, 22, 30)


@pytest.mark.parametrize('classes', [['n1', 'n2'], None])
def test_other_number_of_classes(folders, classes):
    with pytest.raises(UserError) as caught:
        build(folders, classes=classes)
    assert str(caught.value) == (
        f"'{folders}/train' has 3 class folders, expected {len(classes) if classes else 1000}; complete it, or for "
        'classes of your own set metainfo.classes of the data sets, model.head.num_classes and '
        'data_preprocessor.num_classes.'
    )


def test_keys_are_relative_paths_and_values_the_files(folders, packed, tmp_path):
    # A copy: this process may have the original open.
    (tmp_path / 'data.mdb').write_bytes((packed / 'train.lmdb' / 'data.mdb').read_bytes())
    with lmdb.open(str(tmp_path), readonly=True) as environment, environment.begin() as t:
        content = dict(t.cursor())
    assert content == {name.encode(): (folders / 'train' / name).read_bytes() for name in FILES}


def test_a_single_file_database_reads_too(folders, packed, tmp_path):
    (tmp_path / 'train.lmdb').write_bytes((packed / 'train.lmdb' / 'data.mdb').read_bytes())
    database, folder = build(tmp_path), build(folders)
    assert_same([database[i] for i in range(6)], [folder[i] for i in range(6)], tmp_path, folders)


def test_uris():
    assert split_uri('lmdb://a.lmdb/b/train.lmdb/n1/x.JPEG') == ('a.lmdb/b/train.lmdb', 'n1/x.JPEG')
    assert split_uri('lmdb:///data/train.lmdb') == ('/data/train.lmdb', '')
    assert split_uri(f'{uri("train.lmdb")}/n1') == ('train.lmdb', 'n1')


def test_what_is_no_lmdb_of_class_folders(packed, tmp_path, monkeypatch):
    with lmdb.open(str(tmp_path / 'train.lmdb')) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'00000000', b'x')
    with pytest.raises(UserError, match=r"has the key '00000000', expected class/image.JPEG"):
        build(tmp_path)
    (tmp_path / 'damaged.lmdb').write_bytes(b'x' * 8192)
    with pytest.raises(UserError, match=r"damaged.lmdb' cannot be opened as an LMDB"):
        fileio.get(uri(tmp_path / 'damaged.lmdb/n1/a.JPEG'))
    with pytest.raises(FileNotFoundError, match=r"has no key 'n1/z.JPEG'"):
        fileio.get(uri(packed / 'train.lmdb/n1/z.JPEG'))
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    (tmp_path / 'val.lmdb').mkdir()
    with pytest.raises(UserError, match=r"val.lmdb' needs the package lmdb; install it with 'pip install lmdb'"):
        fileio.get(uri(tmp_path / 'val.lmdb/n1/a.JPEG'))


def test_command_writes_what_the_data_set_reads(command, folders, tmp_path, capsys):
    target = tmp_path / 'new' / 'train.lmdb'
    assert command([str(folders / 'train'), str(target)]) == 0
    assert f"6 images are written to '{target}'" in capsys.readouterr().out
    assert fileio.get(uri(target / 'n1-b/x.jpeg')) == (folders / 'train/n1-b/x.jpeg').read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ['train.lmdb']


def test_command_never_overwrites(command, folders, tmp_path, capsys):
    target = tmp_path / 'train.lmdb'
    target.write_text('mine')
    assert command([str(folders / 'train'), str(target)]) == 1
    assert capsys.readouterr().err == f"error: '{target}' exists already; delete it or choose another name.\n"
    assert target.read_text() == 'mine'
    target.unlink()
    (tmp_path / 'train.lmdb.partial').write_text('another run')
    assert command([str(folders / 'train'), str(target)]) == 1
    assert 'is left of a run that was cut off' in capsys.readouterr().err
    assert (tmp_path / 'train.lmdb.partial').read_text() == 'another run'


@pytest.mark.parametrize('error', [KeyboardInterrupt, lmdb.DiskError])
def test_nothing_half_written_is_left(folders, tmp_path, error):
    def stop(images):
        yield images[0]
        assert (tmp_path / 'train.lmdb.partial' / 'data.mdb').exists()
        raise error('no space')

    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else UserError, match='no space'):
        write_lmdb(folders / 'train', tmp_path / 'train.lmdb', stop)
    assert list(tmp_path.iterdir()) == []


def test_command_says_what_is_wrong_with_the_folder(command, tmp_path, capsys):
    def said(folder, target='out.lmdb'):
        assert command([str(folder), str(tmp_path / target)]) == 1
        captured = capsys.readouterr().err
        assert captured.startswith('error: ') and captured.count('\n') == 1
        return captured

    assert "nothing' is not a folder" in said(tmp_path / 'nothing')
    (tmp_path / 'train').mkdir()
    assert "train' has no class folders" in said(tmp_path / 'train')
    (tmp_path / 'train' / 'n1').mkdir()
    assert "class folder '" in said(tmp_path / 'train')
    (tmp_path / 'train' / 'n1' / ('x' * 200)).mkdir()
    (tmp_path / 'train' / 'n1' / ('x' * 200) / ('y' * 200)).mkdir()
    (tmp_path / 'train' / 'n1' / ('x' * 200) / ('y' * 200) / ('z' * 200 + '.jpg')).write_text('')
    assert 'has 609 bytes, but a key may have 511' in said(tmp_path / 'train')
    assert 'must end in .lmdb; call it out.lmdb' in said(tmp_path / 'train', 'out.mdb')


def test_command_refuses_what_the_disk_cannot_hold(folders, tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=4096))
    with pytest.raises(UserError, match=r'needs 0.0 GiB, but only 0.0 GiB are free'):
        write_lmdb(folders / 'train', tmp_path / 'train.lmdb')
    assert list(tmp_path.iterdir()) == []


def test_importing_needs_neither_mmpretrain_nor_lmdb():
    code = (
        'import sys; sys.modules.update(mmpretrain=None, lmdb=None); import mmatconv, mmatconv.datasets; '
        "print(hasattr(mmatconv.datasets, 'CLASSES'))"
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == 'True\n'
