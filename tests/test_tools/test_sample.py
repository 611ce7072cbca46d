"""tools/train.py with SiT, and tools/sample.py: on pixels with classes, on latents without, and what they refuse."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

FEW = ['--steps', '2', '--count', '3']


@pytest.fixture(scope='module')
def trained(run, tmp_path_factory):
    """The work dir of four iterations on pixels, interrupted by nothing, and resumed after two."""
    folder = tmp_path_factory.mktemp('sit')
    outcome = run('train.py', 'sit.py', '--cfg-options', 'train_cfg.max_iters=2', cwd=folder)
    assert outcome.status == 0, outcome.errors
    outcome = run('train.py', 'sit.py', '--resume', cwd=folder)
    assert outcome.status == 0 and 'resumed at iteration 2/4' in outcome.output, outcome.errors
    assert 'FlowMatching with SiT' in outcome.output
    return folder / 'work_dirs' / 'sit'


@pytest.fixture(scope='module')
def latents(run, tmp_path_factory):
    """The same on latents, in mixed precision."""
    folder = tmp_path_factory.mktemp('latents')
    (folder / 'latents').mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        np.save(folder / 'latents' / f'{i}.npy', rng.random((8, 8, 12), dtype=np.float32))
    outcome = run('train.py', 'sit_latents.py', '--amp', cwd=folder)
    assert outcome.status == 0, outcome.errors
    assert 'bfloat16 on the CPU' in outcome.output + outcome.errors
    return folder / 'work_dirs' / 'sit_latents' / 'iter_4.pth'


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_training_keeps_both_weights(trained):
    checkpoint = torch.load(trained / 'iter_4.pth', weights_only=False)
    average, last = checkpoint['state_dict'], checkpoint['ema_state_dict']
    name = 'backbone.final_layer.linear.weight'
    # Zero at first, so that half of each step makes the average shorter than the weights.
    assert 0 < average[name].norm() < last[f'module.{name}'].norm()
    losses = [json.loads(line)['loss'] for line in next(trained.rglob('scalars.json')).read_text().splitlines()]
    assert np.isfinite(losses).all()


def test_samples_of_classes(run, trained, tmp_path):
    arguments = [trained / 'iter_4.pth', *FEW, '--guidance', '2', '--classes', '1', '0']
    outcome = run('sample.py', 'sit.py', *arguments, '--out', 'a', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert outcome.output.endswith("'a' is written: sheet.png, samples.json and 3 pictures\n")
    names = [f'samples/00000{i}_class000{label}.png' for i, label in enumerate((1, 0, 1))]
    assert files(tmp_path / 'a') == ['samples.json', *names, 'sheet.png']
    content = json.loads((tmp_path / 'a' / 'samples.json').read_text())
    assert content['samples'] == [dict(file=name, label=label) for name, label in zip(names, (1, 0, 1))]
    assert (content['steps'], content['solver'], content['guidance'], content['seed']) == (2, 'heun', 2.0, 0)
    pictures = [cv2.imread(str(tmp_path / 'a' / name)) for name in names]
    assert [picture.shape for picture in pictures] == [(8, 12, 3)] * 3
    assert cv2.imread(str(tmp_path / 'a' / 'sheet.png')).shape[1] > 3 * 96

    # The same again, whatever is computed together; another seed is another.
    for folder, options in (('b', ['--batch', '2']), ('c', ['--seed', '1'])):
        assert run('sample.py', 'sit.py', *arguments, *options, '--out', folder, cwd=tmp_path).status == 0
    differences = [
        [np.abs(picture.astype(int) - cv2.imread(str(tmp_path / folder / name))).max() for folder in 'bc']
        for picture, name in zip(pictures, names)
    ]
    # Sums run in another order in a batch of another size, which may round a pixel to the next value.
    assert all(same <= 1 and other > 20 for same, other in differences)

    outcome = run('sample.py', 'sit.py', *arguments, '--out', 'a', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence == "the folder 'a' is not empty and is not overwritten; remove it or choose another."


def test_samples_of_latents(run, latents, tmp_path):
    outcome = run('sample.py', 'sit_latents.py', latents, *FEW, '--solver', 'euler', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    samples = np.stack([np.load(path) for path in sorted((tmp_path / 'samples' / 'samples').glob('*_class0000.npy'))])
    assert samples.shape == (3, 4, 8, 12) and samples.dtype == np.float32
    # Noise of unit variance, times the 4 of the config, and little learned.
    assert 2 < samples.std() < 8
    assert (tmp_path / 'samples' / 'sheet.png').exists()


def released(checkpoint, folder):
    """A checkpoint as the released code writes it, the EMA beside weights that would give nothing but noise."""
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    average = {name.removeprefix('backbone.'): value for name, value in state.items()}
    weights = {name: torch.zeros_like(value) for name, value in average.items()}
    torch.save(dict(model=weights, ema=average, opt={}), folder / 'released.pt')
    return folder / 'released.pt'


def test_released_checkpoints(run, trained, tmp_path):
    """Sampled by their EMA, and trained on from it."""
    checkpoint = released(trained / 'iter_4.pth', tmp_path)
    for name, source in (('a', checkpoint), ('b', trained / 'iter_4.pth')):
        assert run('sample.py', 'sit.py', source, *FEW, '--out', name, cwd=tmp_path).status == 0
    for first, second in zip(*(sorted((tmp_path / name / 'samples').iterdir()) for name in 'ab'), strict=True):
        assert first.read_bytes() == second.read_bytes()
    outcome = run(
        'train.py', 'sit.py', '--cfg-options', f'load_from={checkpoint}', 'train_cfg.max_iters=1', cwd=tmp_path
    )
    assert outcome.status == 0, outcome.errors
    log = next((tmp_path / 'work_dirs').rglob('*.log')).read_text()
    assert "has SiT's released names; the EMA of it is read" in log and ', 0 missing, 0 unused' in log


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--count', '0'], '--count 0 is not a number of samples; give 1 or more'),
        (['--classes', '2'], '--classes: the model has no class 2, its classes are 0 to 1'),
        (['--seed', '-1'], '--seed -1 is not a seed; give 0 or more'),
        (['--fid', '.'], "--fid needs torch-fidelity; install it with 'pip install torch-fidelity'"),
    ],
)
def test_wrong_options_are_one_sentence(run, trained, tmp_path, options, sentence):
    outcome = run('sample.py', 'sit.py', trained / 'iter_4.pth', *options, cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence == sentence
    assert files(tmp_path) == []


def test_wrong_models_are_one_sentence(run, trained, latents, tmp_path):
    outcome = run('sample.py', 'sit_latents.py', latents, '--guidance', '2', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence.startswith('a guidance of 2.0 needs a model with classes that training hid now and then')
    outcome = run('sample.py', 'sit_latents.py', trained / 'iter_4.pth', cwd=tmp_path)
    assert outcome.status == 1 and 'is of another model' in outcome.sentence
    outcome = run('sample.py', 'cls.py', trained / 'iter_4.pth', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence.endswith('builds an ImageClassifier, which generates nothing; use one of configs/sit')
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    'array, sentence',
    [
        (np.zeros((3, 8, 12)), 'holds (3, 8, 12), expected (4, height, width), or (8, height, width) for mean and'),
        (b'no array', 'cannot be read as .npy ('),
    ],
)
def test_wrong_latents_are_one_sentence(run, tmp_path, array, sentence):
    (tmp_path / 'latents').mkdir()
    path = Path('latents', '0.npy')
    if isinstance(array, bytes):
        (tmp_path / path).write_bytes(array)
    else:
        np.save(tmp_path / path, array)
    outcome = run('train.py', 'sit_latents.py', cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence.startswith(f"'{path}' {sentence}"), outcome.errors


def test_data_without_the_labels_the_model_needs(run, tmp_path):
    dataset = 'train_dataloader.dataset'
    outcome = run('train.py', 'sit.py', '--cfg-options', f'{dataset}.with_label=False', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence.startswith('model.backbone.num_classes is 2, but the data set has no labels; give it one')
    outcome = run('train.py', 'sit.py', '--cfg-options', f'{dataset}.extensions=[.gif]', cwd=tmp_path)
    assert outcome.status == 1 and 'Found 0 files' in outcome.sentence
    assert 'name a folder with a folder of images for each class' in outcome.sentence


def test_fid(run, trained, shapes, tmp_path):
    """With a stand-in for torch-fidelity that says what it is asked."""
    package = tmp_path / 'packages' / 'torch_fidelity'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(
        'import os\n\n\n'
        'def calculate_metrics(input1, input2, fid, cuda, feature_extractor_weights_path, **options):\n'
        '    assert fid and not cuda and options == dict(samples_find_deep=True, verbose=False)\n'
        '    assert open(feature_extractor_weights_path).read() == "weights"\n'
        '    return dict(frechet_inception_distance=100 * len(os.listdir(input1)) + len(os.listdir(input2)))\n'
    )
    variables = dict(PYTHONPATH=os.pathsep.join([str(package.parent), os.environ.get('PYTHONPATH', '')]))
    real = shapes / 'cls' / 'dark'
    arguments = ['sample.py', 'sit.py', trained / 'iter_4.pth', *FEW, '--fid', real, '--out', 'a']
    outcome = run(*arguments, cwd=tmp_path, **variables)
    assert outcome.status == 1 and outcome.sentence.startswith('--fid needs --fid-weights FILE: the Inception weights')
    (tmp_path / 'weights').write_text('weights')
    outcome = run(*arguments, '--fid-weights', 'weights', cwd=tmp_path, **variables)
    assert outcome.status == 0 and outcome.output.endswith('FID 302.000 of 3 samples\n'), outcome.errors
    assert json.loads((tmp_path / 'a' / 'samples.json').read_text())['fid'] == 302
