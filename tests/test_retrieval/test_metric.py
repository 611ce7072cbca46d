"""The metric: which images are queries and gallery, the galleries of LLCM, tracks."""

import random

import numpy as np
import pytest
import torch

from mmatconv import CrossModalityMetric, UserError
from mmatconv.retrieval.metric import Entry, _draw


def sample(angle, person, modality, camera=None, track=0, path=''):
    """A feature in the plane at an angle, of any length."""
    feature = 3 * torch.tensor([np.cos(angle), np.sin(angle)])
    camera = camera or (1 if modality == 'visible' else 2)
    names = ('person_id', 'camera_id', 'modality', 'track_id', 'img_path')
    return dict(zip(names, (person, camera, modality, track, path)), feature=feature)


def figures(samples, **options):
    metric = CrossModalityMetric(ranks=(1,), **options)
    metric.process(None, samples)
    return {name.removeprefix('retrieval/'): value for name, value in metric.evaluate(len(samples)).items()}


# The infrared image of 1 is nearest to the visible one of 2, whose own infrared image is farther off on the other side.
LINE = [
    sample(0.0, 1, 'visible'),
    sample(0.5, 1, 'infrared'),
    sample(0.8, 2, 'visible'),
    sample(1.2, 2, 'infrared'),
]


def test_either_modality_asks():
    # Infrared: 1 finds 2 (0.3) before 1 (0.5), 2 finds 2. Visible: 1 finds 1; 2 finds 1 (0.3) before 2 (0.4).
    assert figures(LINE) == pytest.approx(dict(rank1=50, mAP=75, mINP=75))
    assert figures(LINE, query='visible') == pytest.approx(dict(rank1=50, mAP=75, mINP=75))
    assert figures([*LINE, sample(0.0, 1, 'infrared')])['rank1'] == pytest.approx(200 / 3)
    assert figures([*LINE, sample(0.0, 1, 'infrared')], query='visible')['rank1'] == 50


def test_pictures_of_the_modality_that_asks_are_no_gallery():
    # Two infrared cameras have seen 1 from the same angle, and the visible picture nearest to both is of 2.
    samples = [
        sample(0.0, 1, 'visible'),
        sample(0.1, 2, 'visible'),
        sample(0.2, 1, 'infrared', camera=2),
        sample(0.2, 1, 'infrared', camera=3),
    ]
    assert figures(samples) == pytest.approx(dict(rank1=0, mAP=50, mINP=50))


def test_lengths_of_features_do_not_matter():
    longer = [dict(entry, feature=entry['feature'] * 10 ** (i - 2)) for i, entry in enumerate(LINE)]
    assert figures(longer) == pytest.approx(figures(LINE))


def test_tracks_are_compared_by_their_mean():
    # Two frames of the same track of each modality: 0 and 1 of identity 1 come to 0.5, the query's angle.
    frames = [
        sample(0.0, 1, 'visible', track=1),
        sample(1.0, 1, 'visible', track=1),
        sample(0.7, 2, 'visible', track=2),
        sample(0.5, 1, 'infrared', track=1),
    ]
    assert figures(frames)['rank1'] == 0
    assert figures(frames, average_tracks=True) == pytest.approx(dict(rank1=100, mAP=100, mINP=100))


def test_a_drawn_gallery_is_that_of_llcms_code():
    """One image of each identity and camera: random.seed(trial), then a choice from each folder in order."""
    gallery = [
        Entry(np.ones(1), person, camera, 'visible', 0, f'{person}/{camera}/{name}')
        for name in 'dbac'
        for camera in (2, 1)
        for person in (7, 3)
    ]
    for trial in range(5):
        random.seed(trial)
        expected = [f'{person}/{camera}/{random.choice("abcd")}' for person in (3, 7) for camera in (1, 2)]
        assert [entry.path for entry in _draw(gallery, trial)] == expected


def test_trials_are_averaged():
    samples = [
        sample(0.0, 1, 'visible', path='a'),
        sample(1.0, 1, 'visible', path='b'),
        sample(0.5, 2, 'visible', path='c'),
        sample(0.0, 1, 'infrared'),
    ]
    # The image drawn is a, and found, or b, and not.
    shares = [random.Random(trial).choice('ab') == 'a' for trial in range(10)]
    assert 0 < sum(shares) < 10
    assert figures(samples, trials=10)['rank1'] == pytest.approx(10 * sum(shares))
    assert figures(samples)['rank1'] == 100


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(query='thermal'), "query of CrossModalityMetric is 'thermal'; choose 'infrared' or 'visible'"),
        (dict(trials=-1), 'trials is -1'),
        (dict(ranks=[0]), r'ranks \[0\], expected 0 or more and ranks from 1'),
    ],
)
def test_odd_options(options, message):
    with pytest.raises(UserError, match=message):
        CrossModalityMetric(**options)


def test_what_samples_lack_is_one_sentence():
    metric = CrossModalityMetric()
    with pytest.raises(UserError, match="a sample has no 'camera_id'; give PackInputs meta_keys="):
        metric.process(None, [dict(feature=torch.ones(1), person_id=1)])
    with pytest.raises(UserError, match='there are 0 infrared queries and 2 images to search'):
        figures([sample(0.0, 1, 'visible'), sample(0.0, 2, 'visible')])
