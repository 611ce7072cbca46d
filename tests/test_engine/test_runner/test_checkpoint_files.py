"""Which checkpoint --resume takes, and how files come to be."""

import os

import pytest
import torch

from mmatconv.engine.runner.checkpoint_files import newest_usable, read_meta, remove_partial, write_whole
from mmatconv.errors import UserError


def save(path, number):
    """A checkpoint as MMEngine writes them; the later ones have higher numbers."""
    meta = dict(epoch=number, iter=10 * number, seed=5)
    torch.save({'meta': meta, 'message_hub': {}, 'optimizer': {}, 'state_dict': {'w': torch.zeros(1000)}}, path)
    os.utime(path, (number, number))
    return path


def flip(path):
    """Changes one bit of the tensor, which torch.load does not notice."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    os.utime(path, (100, 100))


def test_the_one_that_is_named(tmp_path, capsys):
    assert newest_usable(str(tmp_path)) is None
    one = save(tmp_path / 'epoch_1.pth', 1)
    save(tmp_path / 'epoch_2.pth', 2)
    (tmp_path / 'last_checkpoint').write_text(str(one))
    path, meta = newest_usable(str(tmp_path))
    assert path == one
    assert meta['seed'] == 5
    assert capsys.readouterr().out == ''


def test_a_damaged_one_is_passed_over(tmp_path, capsys):
    save(tmp_path / 'epoch_1.pth', 1)
    two, three = save(tmp_path / 'epoch_2.pth', 2), save(tmp_path / 'epoch_3.pth', 3)
    save(tmp_path / 'best_mAP_epoch_9.pth', 9)
    (tmp_path / 'epoch_4.pth.partial').write_bytes(b'half')
    (tmp_path / 'last_checkpoint').write_text(str(three))
    flip(three)
    assert newest_usable(str(tmp_path))[0] == two
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: checkpoint '{three}' is truncated or damaged (")
    assert line.endswith(f'; resuming from {two}, the newest intact one')


@pytest.mark.parametrize('pointer', [None, '', '/gone/epoch_3.pth', '\0'])
def test_the_name_is_lost(tmp_path, capsys, pointer):
    save(tmp_path / 'epoch_1.pth', 1)
    two = save(tmp_path / 'epoch_2.pth', 2)
    if pointer is not None:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    assert newest_usable(str(tmp_path))[0] == two
    assert capsys.readouterr().out.count('warning: ') == 1


def test_none_is_usable(tmp_path):
    one = tmp_path / 'epoch_1.pth'
    one.write_bytes(save(tmp_path / 'whole', 1).read_bytes()[:2000])
    (tmp_path / 'last_checkpoint').write_text(str(one))
    with pytest.raises(UserError) as told:
        newest_usable(str(tmp_path))
    assert str(told.value).startswith(f"checkpoint '{one}' is truncated or damaged (")
    assert str(told.value).endswith('; name one with --resume PATH, or leave --resume out to start over')


def test_weights_alone_are_not_enough(tmp_path):
    path = save(tmp_path / 'weights.pth', 1)
    torch.save({'state_dict': {'w': torch.zeros(1)}, 'meta': {}}, path)
    with pytest.raises(UserError, match='cannot be resumed from: it does not hold message_hub, optimizer; name one'):
        read_meta(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / 'last_checkpoint'
    target.write_text('before')
    steps = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda handle: (steps.append('fsync'), sync(handle)))
    monkeypatch.setattr(os, 'replace', lambda *names: (steps.append('replace'), replace(*names)))
    write_whole(target, lambda path: path.write_text('after'))
    assert target.read_text() == 'after'
    assert steps == ['fsync', 'replace', 'fsync']  # the file, its name, the folder

    def fail(path):
        path.write_text('ha')
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space left'):
        write_whole(target, fail)
    assert target.read_text() == 'after'
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_kill_leaves_is_removed(tmp_path):
    for name in (
        'iter_2.pth.partial',
        '.partial-0a-iter_2.pth',
        'last_checkpoint.partial',
        'notes.partial',
        'iter_1.pth',
    ):
        (tmp_path / name).touch()
    assert len(remove_partial(tmp_path)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['iter_1.pth', 'notes.partial']
