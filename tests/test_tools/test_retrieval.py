"""tools/train.py and tools/test.py on people in two modalities: it learns, resumes, and says what is wrong."""

import json
import shutil

import pytest
import torch

from ..test_retrieval.people import write_llcm, write_vcm


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp('people')
    write_vcm(root / 'VCM')
    return str(write_llcm(root / 'LLCM'))


@pytest.fixture(scope='module')
def trained(run, people, tmp_path_factory):
    """The work dir of a training in one go."""
    folder = tmp_path_factory.mktemp('reid')
    outcome = run('train.py', 'reid.py', cwd=folder, PEOPLE=people)
    assert outcome.status == 0, outcome.errors
    assert 'training    32 images (LLCM), 8 epochs of 2, 16 at a time' in outcome.output
    return folder / 'work_dirs' / 'reid'


def figures(folder):
    """What the last evaluation has written."""
    logs = sorted((folder / 'work_dirs' / 'reid').rglob('2*.json'))
    found = json.loads(logs[-1].read_text().splitlines()[-1])
    return {name.removeprefix('retrieval/'): value for name, value in found.items() if name.startswith('retrieval/')}


def test_both_losses_fall(trained):
    lines = next(trained.rglob('scalars.json')).read_text().splitlines()
    losses = [line for line in map(json.loads, lines) if 'loss' in line]
    for name in ('loss_id', 'loss_triplet'):
        assert losses[-1][name] < 0.95 * losses[0][name]
    assert losses[-1]['loss'] == pytest.approx(losses[-1]['loss_id'] + losses[-1]['loss_triplet'], rel=1e-5)


@pytest.mark.parametrize('query', ['infrared', 'visible'])
def test_finds_what_is_easy(run, trained, people, tmp_path, query):
    options = ['--cfg-options', f'test_evaluator.query={query}']
    outcome = run('test.py', 'reid.py', trained / 'epoch_8.pth', *options, cwd=tmp_path, PEOPLE=people)
    assert outcome.status == 0, outcome.errors
    found = figures(tmp_path)
    assert set(found) == {'rank1', 'rank5', 'rank20', 'mAP', 'mINP'}
    assert found['rank1'] == 100 and found['rank1'] >= found['mAP'] >= found['mINP'] > 90


def test_resumes_exactly(run, trained, people, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=4']
    assert run('train.py', 'reid.py', *options, cwd=tmp_path, PEOPLE=people).status == 0
    outcome = run('train.py', 'reid.py', '--resume', cwd=tmp_path, PEOPLE=people)
    assert outcome.status == 0, outcome.errors
    straight, resumed = (
        torch.load(folder / 'epoch_8.pth', weights_only=False)['state_dict']
        for folder in (trained, tmp_path / 'work_dirs' / 'reid')
    )
    assert all(torch.equal(straight[name], value) for name, value in resumed.items())


@pytest.mark.slow
def test_two_processes_find_what_one_does(run, people, tmp_path):
    # 31 pictures, so that one is evaluated twice.
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=8']
    options.append('val_dataloader.dataset.indices=31')
    outcome = run('dist_train.sh', 'reid.py', 2, *options, cwd=tmp_path, PEOPLE=people)
    assert outcome.status == 0, outcome.errors
    assert 'epoch 1/1, iteration 2/2' in outcome.output
    together, checkpoint = figures(tmp_path), tmp_path / 'work_dirs' / 'reid' / 'epoch_1.pth'
    options = ['--cfg-options', 'test_dataloader.dataset.indices=31']
    outcome = run('test.py', 'reid.py', checkpoint, *options, cwd=tmp_path, PEOPLE=people)
    assert outcome.status == 0, outcome.errors
    assert together == pytest.approx(figures(tmp_path))


def test_vcm_is_evaluated_by_its_tracks(run, people, tmp_path):
    options = [f'{name}_dataloader.dataset.type=mmatconv.VCM' for name in ('train', 'val', 'test')]
    options += [
        'val_evaluator.trials=0',
        'val_evaluator.count_identities=False',
        'val_evaluator.average_tracks=True',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
    ]
    root = people.replace('LLCM', 'VCM')
    outcome = run('train.py', 'reid.py', '--cfg-options', *options, cwd=tmp_path, PEOPLE=root)
    assert outcome.status == 0, outcome.errors
    # Two infrared tracks ask for two visible ones: each finds its own at once or after the other.
    assert figures(tmp_path)['rank1'] in (0, 50, 100) and figures(tmp_path)['rank5'] == 100


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['train_dataloader.dataset.data_root=nowhere'], "data root 'nowhere' of train_dataloader.dataset does not"),
        (['val_dataloader.dataset.data_root=.'], "'idx/test_id.txt' cannot be read"),
        (['train_dataloader.dataset.type=mmatconv.VCM'], "info/train_name.txt' cannot be read"),
        (['model.head.num_classes=2'], 'model.head.num_classes is 2, but the data set has a label 3'),
        (['val_evaluator.query=thermal'], "query of CrossModalityMetric is 'thermal'"),
        (['train_dataloader.sampler.images=0'], 'images of IdentitySampler is 0, expected 1 or more'),
    ],
)
def test_what_is_wrong_is_one_sentence(run, people, tmp_path, options, sentence):
    options = ['--cfg-options', 'train_cfg.max_epochs=1', *options]
    outcome = run('train.py', 'reid.py', *options, cwd=tmp_path, PEOPLE=people)
    assert outcome.status == 1
    assert sentence in outcome.sentence


def test_a_missing_picture_is_named(run, people, tmp_path):
    root = tmp_path / 'LLCM'
    shutil.copytree(people, root)
    next((root / 'nir').rglob('*.png')).unlink()
    outcome = run('train.py', 'reid.py', cwd=tmp_path, PEOPLE=str(root))
    assert outcome.status == 1 and '_nir.png' in outcome.sentence
