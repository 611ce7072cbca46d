"""Which process writes the files of an image, and under which name."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, DefaultSampler
from torch.utils.data import DataLoader

from mmatconv.engine.hooks import one_writer
from mmatconv.engine.hooks.one_writer import OneFilePerImageHook, OwnSamples
from mmatconv.engine.hooks.show_dir import image_folder, picture_name
from mmatconv.errors import UserError


class Images(BaseDataset):
    def __init__(self, names, folder='/data/val'):
        self.names = names
        super().__init__(data_root=folder, data_prefix=dict(img_path='images'))

    def load_data_list(self):
        return [dict(img_path=f'{self.data_prefix["img_path"]}/{name}') for name in self.names]


@pytest.mark.parametrize(('size', 'processes'), [(5, 2), (4, 2), (5, 3), (1, 4)])
def test_each_image_has_one_process(monkeypatch, size, processes):
    seen = []
    for rank in range(processes):
        monkeypatch.setattr(one_writer, 'get_dist_info', lambda rank=rank: (rank, processes))
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, processes))
        data = list(range(size))
        loader = DataLoader(data, batch_size=2, sampler=DefaultSampler(data, shuffle=True, seed=1))
        own = OwnSamples(loader)
        seen += [image for batch in loader for image in own.of(batch.tolist())]
    assert sorted(seen) == data


class Metric:
    def __init__(self):
        self.output_dir = 'maps'
        self.seen = []

    def process(self, data_batch, data_samples):
        self.seen += data_samples


def test_metrics_that_write_files_write_each_once(monkeypatch):
    monkeypatch.setattr(one_writer, 'get_dist_info', lambda: (1, 2))
    metric = Metric()

    def before_test(names):
        loader = SimpleNamespace(dataset=Images(names), sampler=DefaultSampler(names, shuffle=False))
        evaluator = SimpleNamespace(metrics=[metric])
        OneFilePerImageHook().before_test(SimpleNamespace(test_dataloader=loader, test_evaluator=evaluator))

    before_test(['1.jpg', '2.jpg', '3.jpg'])
    metric.process(data_batch=None, data_samples=['2', '1 again'])
    assert metric.seen == ['2']
    with pytest.raises(UserError) as told:
        before_test(['cat/1.jpg', 'dog/2.jpg', 'dog/1.jpg'])
    assert str(told.value).startswith(
        "Metric would write the predictions of '/data/val/images/cat/1.jpg' and '/data/val/images/dog/1.jpg' to "
    )
    metric.output_dir = None
    before_test(['cat/1.jpg', 'dog/1.jpg'])


def test_pictures_keep_their_folders(tmp_path):
    folder = image_folder(Images(['cat/1.jpg']))
    assert folder == '/data/val/images'
    assert picture_name('/data/val/images/cat/1.jpg', folder) == 'cat/1.jpg'
    assert picture_name('/data/other/1.jpg', folder) == 'data/other/1.jpg'
    assert picture_name('/data/other/1.jpg', None) == 'data/other/1.jpg'
    several = SimpleNamespace(datasets=[Images(['1.jpg'], '/data/one'), Images(['1.jpg'], '/data/two')])
    folder = image_folder(several)
    assert picture_name('/data/two/images/1.jpg', folder) == 'two/images/1.jpg'
