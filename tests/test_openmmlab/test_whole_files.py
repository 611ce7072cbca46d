"""Two writers of one file, each half done when the other begins: one of them is whole in the end."""

import json
import os
import threading

import mmengine
import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend, io, register_backend

from mmatconv.openmmlab.whole_files import use_whole_files


@pytest.fixture
def whole_files(monkeypatch):
    monkeypatch.setattr(Config, 'dump', Config.dump)
    use_whole_files()
    yield
    register_backend('local', LocalBackend, force=True, prefixes='')
    io.backend_instances.clear()


def test_writers_that_overlap(whole_files, tmp_path, monkeypatch):
    """Both have written all they have to before either gives its file the name."""
    both = threading.Barrier(2)
    replace = os.replace

    def replace_together(source, target):
        both.wait(30)
        replace(source, target)

    monkeypatch.setattr(os, 'replace', replace_together)
    scores = [{'coco/bbox_mAP': 0.25, 'time': 0.258286}, {'coco/bbox_mAP': 0.25, 'time': 0.2}]
    threads = [threading.Thread(target=mmengine.dump, args=(each, tmp_path / 'scores.json')) for each in scores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / 'scores.json').read_text()) in scores
    assert [path.name for path in tmp_path.iterdir()] == ['scores.json']


@pytest.mark.parametrize('name', ['config.py', 'config.json', 'predictions.pkl'])
def test_a_write_that_fails_leaves_the_file_before_it(whole_files, tmp_path, monkeypatch, name):
    file = tmp_path / 'new' / name
    file.parent.mkdir()
    config = Config(dict(a=1))
    write = (lambda: mmengine.dump([1], file)) if name.endswith('pkl') else (lambda: config.dump(file))
    write()
    before = file.read_bytes()
    assert before

    def fail(source, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', fail)
    config.a = 2
    with pytest.raises(OSError, match='No space left'):
        write()
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [name]
