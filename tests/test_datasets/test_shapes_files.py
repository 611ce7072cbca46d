"""The generated data set on disk: the layout, equal bytes, folders that hold something already, the command."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from mmatconv.datasets import write_shapes
from mmatconv.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_tools' / 'make_shapes.py'


@pytest.fixture
def command():
    """The command's main function, in this process: each new process would import torch again."""
    spec = importlib.util.spec_from_file_location('make_shapes_under_test', TOOL)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module.main


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def test_layout(root, small):
    assert sorted(p.name for p in root.iterdir()) == ['ade', 'coco', 'shapes.json']
    for split, folder, count in (('train', 'training', 10), ('val', 'validation', 9)):
        names = [f'{i + 1:012d}' for i in range(count)]
        pictures = sorted((root / 'coco' / split).iterdir())
        linked = sorted((root / 'ade' / 'images' / folder).iterdir())
        labels = sorted((root / 'ade' / 'annotations' / folder).iterdir())
        assert [p.name for p in pictures] == [p.name for p in linked] == [f'{name}.jpg' for name in names]
        assert [p.name for p in labels] == [f'{name}.png' for name in names]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(pictures, linked))
        assert {cv2.imread(str(p), cv2.IMREAD_UNCHANGED).shape for p in pictures} == {(96, 96, 3)}
        assert {cv2.imread(str(p), cv2.IMREAD_UNCHANGED).shape for p in labels} == {(96, 96)}
    assert json.loads((root / 'shapes.json').read_text()) == {
        'tool': 'mmatconv.datasets.shapes',
        'version': 1,
        'seed': 0,
        **small,
    }


def test_same_bytes_again(root, tmp_path, small):
    write_shapes(tmp_path / 'again', **small)
    assert contents(tmp_path / 'again') == contents(root)


def test_images_do_not_depend_on_their_number(root, tmp_path, load):
    write_shapes(tmp_path / 'few', train=3, val=2, size=96)
    few, many = contents(tmp_path / 'few'), contents(root)
    pictures = [name for name in few if name.endswith(('.jpg', '.png'))]
    assert len(pictures) == 15 and all(few[name] == many[name] for name in pictures)
    for split, count in (('train', 3), ('val', 2)):
        entries = [
            [a for a, _ in load(folder, split)[1] if a['image_id'] <= count] for folder in (root, tmp_path / 'few')
        ]
        assert entries[0] == entries[1]


def test_seed_and_split_change_the_images(root, tmp_path):
    write_shapes(tmp_path / 'other', train=1, val=1, size=96, seed=1)
    first = 'coco/{}/000000000001.jpg'
    pictures = {
        (folder / first.format(split)).read_bytes()
        for folder in (root, tmp_path / 'other')
        for split in ('train', 'val')
    }
    assert len(pictures) == 4


def test_copies_where_there_are_no_hard_links(root, tmp_path, monkeypatch, small):
    def refuse(*_):
        raise OSError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'link', refuse)
    write_shapes(tmp_path / 'copied', **small)
    assert contents(tmp_path / 'copied') == contents(root)


def test_nothing_is_done_twice(tmp_path):
    small = {'train': 1, 'val': 1, 'size': 64}
    assert write_shapes(tmp_path / 'd', **small)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / 'd').rglob('*')}
    assert not write_shapes(tmp_path / 'd', **small)
    assert not write_shapes(tmp_path / 'd', **small, overwrite=True)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / 'd').rglob('*')} == times


def test_other_settings_need_overwrite(tmp_path):
    write_shapes(tmp_path / 'd', train=2, val=1, size=64)
    before = contents(tmp_path / 'd')
    with pytest.raises(UserError, match=r'other settings \(train 2, seed 0\).*--overwrite'):
        write_shapes(tmp_path / 'd', train=1, val=1, size=64, seed=5)
    assert contents(tmp_path / 'd') == before
    (tmp_path / 'd' / 'notes.txt').write_text('mine')
    assert write_shapes(tmp_path / 'd', train=1, val=1, size=64, seed=5, overwrite=True)
    write_shapes(tmp_path / 'e', train=1, val=1, size=64, seed=5)
    after = contents(tmp_path / 'd')
    assert after.pop('notes.txt') == b'mine'
    assert after == contents(tmp_path / 'e')


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize('name,text', [('photo.jpg', 'x'), ('shapes.json', '{"name": "theirs"}'), ('shapes.json', '[')])
def test_foreign_folders_are_left_alone(tmp_path, name, text, overwrite):
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'precious').write_text('x')
    (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(UserError, match='not written by this tool'):
        write_shapes(tmp_path, train=1, val=1, size=64, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'd').write_text('x')
    with pytest.raises(UserError, match='is a file'):
        write_shapes(tmp_path / 'd', train=1, val=1, size=64)


def test_an_empty_folder_is_welcome(tmp_path):
    assert write_shapes(tmp_path, train=1, val=1, size=64)


def test_interrupted_folder_is_finished(root, tmp_path, small):
    class Stop(Exception):
        pass

    def stop(split, done, total):
        if (split, done) == ('val', 2):
            raise Stop

    with pytest.raises(Stop):
        write_shapes(tmp_path / 'd', **small, progress=stop)
    assert not (tmp_path / 'd' / 'shapes.json').exists()
    assert (tmp_path / 'd' / 'shapes.unfinished.json').exists()
    assert write_shapes(tmp_path / 'd', **small)
    assert contents(tmp_path / 'd') == contents(root)


def test_interrupted_overwriting_is_finished(root, tmp_path, small):
    write_shapes(tmp_path / 'd', train=12, val=1, size=64)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / 'd', **small, overwrite=True, progress=stop)
    assert write_shapes(tmp_path / 'd', **small)
    assert contents(tmp_path / 'd') == contents(root)


def test_missing_files_are_noticed(tmp_path):
    write_shapes(tmp_path / 'd', train=1, val=1, size=64)
    (tmp_path / 'd/coco/val/000000000001.jpg').unlink()
    with pytest.raises(UserError, match=r'incomplete \(.*000000000001.jpg'):
        write_shapes(tmp_path / 'd', train=1, val=1, size=64)
    assert write_shapes(tmp_path / 'd', train=1, val=1, size=64, overwrite=True)
    assert (tmp_path / 'd/coco/val/000000000001.jpg').is_file()


def test_links_are_not_followed(tmp_path):
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs' / 'precious').write_text('x')
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd' / 'shapes.unfinished.json').touch()
    (tmp_path / 'd' / 'coco').symlink_to(tmp_path / 'theirs')
    assert write_shapes(tmp_path / 'd', train=1, val=1, size=64)
    assert contents(tmp_path / 'theirs') == {'precious': b'x'}


@pytest.mark.parametrize(
    'wrong',
    [
        {'train': 0},
        {'train': -1},
        {'val': 0},
        {'size': 63},
        {'size': 4000},
        {'size': 96.5},
        {'seed': -1},
        {'val': True},
    ],
)
def test_settings_out_of_range(tmp_path, wrong, small):
    (name, value), *_ = wrong.items()
    with pytest.raises(UserError, match=f'{name} is {value}, expected a whole number from'):
        write_shapes(tmp_path / 'd', **{**small, **wrong})
    assert not (tmp_path / 'd').exists()


def test_without_pycocotools(tmp_path, monkeypatch, small):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    with pytest.raises(UserError, match='pip install pycocotools'):
        write_shapes(tmp_path / 'd', **small)
    assert not (tmp_path / 'd').exists()


def test_command_writes_and_says_so(root, tmp_path, command, capsys):
    arguments = [str(tmp_path / 'd'), '--train', '10', '--val', '9', '--size', '96', '--seed', '0']
    assert command([*arguments, '--preview', str(tmp_path / 'new' / 'p.png')]) == 0
    assert contents(tmp_path / 'd') == contents(root)
    assert cv2.imread(str(tmp_path / 'new' / 'p.png')).shape == (4 * 96, 6 * 96, 3)
    out = capsys.readouterr().out
    assert 'train: 10 images\nval: 9 images\n' in out and 'written to' in out
    assert command(arguments) == 0
    assert 'already in' in capsys.readouterr().out


@pytest.mark.parametrize(
    'extra,message',
    [
        (['--train', '-3'], 'train is -3, expected a whole number from 1'),
        (['--size', '32'], 'size is 32, expected a whole number from 64'),
        (['--val', 'many'], "argument --val: invalid int value: 'many'"),
        (['--colour', 'red'], 'unrecognized arguments: --colour red'),
        (['--preview', 'grid.gif'], "--preview is 'grid.gif', expected a .png file"),
    ],
)
def test_command_mistakes(tmp_path, command, capsys, extra, message):
    assert command([str(tmp_path / 'd'), *extra]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: {message}') and error.count('\n') == 1
    assert not (tmp_path / 'd').exists()


def test_command_refuses_a_foreign_folder(tmp_path):
    (tmp_path / 'photo.jpg').write_text('x')
    # From elsewhere, as a process of its own: nothing is imported from the current folder.
    result = subprocess.run(
        [sys.executable, str(TOOL), str(tmp_path), '--overwrite'], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stdout == ''
    assert result.stderr.startswith('error: the folder') and result.stderr.count('\n') == 1
    assert 'Traceback' not in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['photo.jpg']
