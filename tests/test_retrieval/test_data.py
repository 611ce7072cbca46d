"""LLCM and VCM as they lie on the disk, batches of identities, and what is wrong with a folder."""

from collections import Counter
from pathlib import Path

import pytest

from mmatconv import LLCM, VCM, IdentitySampler, UserError

from .people import write_llcm, write_vcm


@pytest.fixture(scope='module')
def llcm(tmp_path_factory):
    return write_llcm(tmp_path_factory.mktemp('data') / 'LLCM')


@pytest.fixture(scope='module')
def vcm(tmp_path_factory):
    return write_vcm(tmp_path_factory.mktemp('data') / 'VCM')


def info(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_llcm_to_train(llcm):
    found = info(LLCM(str(llcm)))
    assert len(found) == 32 and all(Path(entry['img_path']).is_file() for entry in found)
    entry = found[5]
    assert entry['img_path'].endswith('vis/0002/0002_c02_s1_f1_vis.png')
    names = ('person_id', 'gt_label', 'camera_id', 'modality')
    assert [entry[name] for name in names] == [1, 1, 2, 'visible']
    assert [found[-1][name] for name in names] == [3, 3, 5, 'infrared']


def test_llcm_to_test(llcm):
    found = info(LLCM(str(llcm), split='test'))
    assert len(found) == 32 and all(Path(entry['img_path']).is_file() for entry in found)
    assert Counter((entry['modality'], entry['camera_id']) for entry in found) == {
        (modality, camera): 8 for modality, cameras in (('visible', (1, 2)), ('infrared', (4, 5))) for camera in cameras
    }
    assert {entry['person_id'] for entry in found} == {11, 12, 13, 14}
    assert not any('gt_label' in entry for entry in found)


def test_labels_count_the_identities_that_are_there(llcm, tmp_path):
    (tmp_path / 'idx').mkdir()
    for short in ('vis', 'nir'):
        (tmp_path / 'idx' / f'train_{short}.txt').write_text('a/b_c01_.jpg 40\n\nc/d_c03_.jpg 7\n')
    assert [entry['gt_label'] for entry in info(LLCM(str(tmp_path)))] == [1, 0, 1, 0]


def test_vcm(vcm):
    for split, persons in (('train', {1, 2}), ('test', {3, 4})):
        found = info(VCM(str(vcm), split=split))
        # Six of twelve frames; the tracks of five frames are left out.
        assert len(found) == 24 and all(Path(entry['img_path']).is_file() for entry in found)
        assert {entry['person_id'] for entry in found} == persons
        assert {(entry['modality'], entry['camera_id']) for entry in found} == {('infrared', 3), ('visible', 5)}
        assert set(Counter((entry['modality'], entry['track_id']) for entry in found).values()) == {6}
    frames = [int(Path(entry['img_path']).stem) for entry in found[:6]]
    assert (frames[0], frames[-1]) == (1, 12) and frames == sorted(set(frames))
    assert len(VCM(str(vcm), min_frames=5, frames=0)) == 2 * (12 + 5) + 2 * 12


def test_vcm_without_folders_of_the_splits_and_with_a_frame_of_another(tmp_path):
    root = write_vcm(tmp_path / 'VCM')
    for person in (root / 'Train').iterdir():
        person.rename(root / person.name)
    (root / 'Train').rmdir()
    names = (root / 'info' / 'train_name.txt').read_text().replace('0001M1D3T1F1.', '0002M1D3T1F1.')
    (root / 'info' / 'train_name.txt').write_text(names)
    found = info(VCM(str(root)))
    assert len(found) == 23 and all(Path(entry['img_path']).is_file() for entry in found)


def batches(dataset, epoch=0, rank=0, world=1, images=2, monkeypatch=None, seed=3):
    sampler = IdentitySampler(dataset, images=images, seed=seed)
    sampler.rank, sampler.world_size = rank, world
    sampler.count = -(-len(dataset) // (2 * images * world))
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    return [indices[i : i + 2 * images] for i in range(0, len(indices), 2 * images)]


def test_batches_hold_k_of_each_modality_of_an_identity(llcm):
    dataset = LLCM(str(llcm))
    entries = info(dataset)
    groups = batches(dataset)
    assert len(groups) == 8
    for group in groups:
        assert len({entries[i]['person_id'] for i in group}) == 1 and len(set(group)) == 4
        assert [entries[i]['modality'] for i in group] == ['visible'] * 2 + ['infrared'] * 2
    # All identities before one comes again.
    for half in (groups[:4], groups[4:]):
        assert {entries[group[0]]['person_id'] for group in half} == {0, 1, 2, 3}


def test_order_depends_on_seed_and_epoch_and_processes_share_it(llcm):
    dataset = LLCM(str(llcm))
    assert batches(dataset) == batches(dataset)
    assert batches(dataset) != batches(dataset, epoch=1) != batches(dataset, seed=4)
    alone = batches(dataset)
    for rank in range(2):
        assert batches(dataset, rank=rank, world=2) == alone[rank::2]
    # Three processes have equally many groups, and more than one alone.
    assert [len(batches(dataset, rank=rank, world=3)) for rank in range(3)] == [3, 3, 3]


def test_few_images_are_repeated_and_identities_of_one_modality_left_out(tmp_path):
    (tmp_path / 'idx').mkdir()
    lines = ['a_c1_0.jpg 0', 'a_c1_1.jpg 0', 'a_c1_2.jpg 1']
    (tmp_path / 'idx' / 'train_vis.txt').write_text('\n'.join([*lines, 'a_c1_3.jpg 2']))
    (tmp_path / 'idx' / 'train_nir.txt').write_text('\n'.join(lines))
    dataset = LLCM(str(tmp_path))
    groups = batches(dataset, images=3)
    assert {tuple(sorted(set(group))) for group in groups} == {(0, 1, 4, 5), (2, 6)}
    assert all(len(group) == 6 for group in groups)


@pytest.mark.parametrize(
    'file, text, message',
    [
        (
            'idx/train_nir.txt',
            None,
            r"idx/train_nir.txt' cannot be read .*; unpack the whole data set, or set data_root",
        ),
        ('idx/train_nir.txt', '', 'has no infrared image to train with; unpack the whole data set there'),
        ('idx/train_vis.txt', 'a_c01_.jpg 0\nb.jpg 1', r"line 2 of '.*train_vis.txt' is 'b.jpg 1', expected 'FOLDER"),
        ('idx/train_vis.txt', 'a_c01_.jpg 0', None),
    ],
)
def test_odd_lists_of_llcm(tmp_path, file, text, message):
    root = write_llcm(tmp_path / 'LLCM', persons=2, images=1)
    (root / file).unlink() if text is None else (root / file).write_text(text)
    if message is not None:
        with pytest.raises(UserError, match=message):
            LLCM(str(root))
        return
    with pytest.raises(UserError, match='1 identities have visible and infrared images, expected 2 or more'):
        IdentitySampler(LLCM(str(root)))


def test_odd_folders_of_llcm(llcm, tmp_path):
    root = write_llcm(tmp_path / 'LLCM', persons=2, images=1)
    with pytest.raises(UserError, match="split 'val' of LLCM is unknown; choose 'train' or 'test'"):
        LLCM(str(root), split='val')
    (root / 'test_vis' / 'cam1').rename(root / 'test_vis' / 'camera')
    with pytest.raises(UserError, match="camera' is no folder of LLCM, expected cam1 to cam9"):
        LLCM(str(root), split='test')
    (root / 'test_vis' / 'camera').rename(root / 'other')
    with pytest.raises(UserError, match='has no visible image to test with'):
        LLCM(str(root), split='test')
    (root / 'idx' / 'test_id.txt').write_text('one')
    with pytest.raises(UserError, match=r"line 1 of '.*test_id.txt' is 'one', expected numbers with commas"):
        LLCM(str(root), split='test')
    with pytest.raises(UserError, match='images of IdentitySampler is 0, expected 1 or more'):
        IdentitySampler(LLCM(str(llcm)), images=0)


@pytest.mark.parametrize(
    'file, text, message',
    [
        (
            'track_train_info.txt',
            '1 1 99 1 3',
            r'line 1 .* is .1 1 99 1 3., expected modality \(1, 2\), first and last',
        ),
        ('track_train_info.txt', '3 1 12 1 3', 'expected modality'),
        ('track_train_info.txt', '1 1 12 1', 'expected modality'),
        ('train_name.txt', 'x.jpg\n' * 58, "line 1 of '.*train_name.txt' is 'x.jpg', expected a name as 0001M2D3T1F1"),
    ],
)
def test_odd_lists_of_vcm(tmp_path, file, text, message):
    root = write_vcm(tmp_path / 'VCM')
    (root / 'info' / file).write_text(text)
    with pytest.raises(UserError, match=message):
        VCM(str(root))
    with pytest.raises(UserError, match='frames is -1 and min_frames 12'):
        VCM(str(root), frames=-1)
