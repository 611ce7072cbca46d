"""tools/analysis_tools/browse_predictions.py: the page in a browser, its figures, and what it refuses."""

import json
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mmatconv.analysis.browse import detection
from mmatconv.analysis.browse.results import Results, read_predictions
from mmatconv.errors import UserError

TOOL = 'analysis_tools/browse_predictions.py'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')


def data_of(page):
    return json.loads((page / 'data.js').read_text().removeprefix('const DATA = ').rstrip().rstrip(';'))


def in_browser(page, script=''):
    """The page's document after its own script and another one, as headless Chromium has it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip('needs Chromium: apt-get install chromium')
    index = page / 'test.html'
    index.write_text((page / 'index.html').read_text().replace('</body>', f'<script>{script}</script></body>'))
    result = subprocess.run(
        [browser, '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom', index.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split('<script src="data.js">')[0]


@pytest.fixture(scope='module')
def detections(run, detector, tmp_path_factory):
    """A work dir with predictions of a detector."""
    folder = tmp_path_factory.mktemp('detections')
    outcome = run(
        'test.py', 'det.py', detector / 'epoch_2.pth', '--work-dir', 'work', '--out', 'work/predictions.pkl', cwd=folder
    )
    assert outcome.status == 0, outcome.errors
    return folder / 'work'


@pytest.fixture(scope='module')
def detectors_page(run, detections):
    """The page of it."""
    outcome = run(TOOL, str(detections), '--out', 'page', cwd=detections.parent)
    assert outcome.status == 0, outcome.errors
    return detections.parent / 'page'


@pytest.mark.slow
def test_figures_of_a_detector(run, detections, detectors_page):
    work, page = detections, detectors_page
    data = data_of(page)
    (scores,) = work.glob('*/*.json')
    measured = json.loads(scores.read_text().splitlines()[-1])
    # The metric of the test has three digits.
    assert float(data['metric'].removeprefix('mask AP ')) == pytest.approx(100 * measured['coco/segm_mAP'], abs=0.11)
    assert [row[0] for row in data['table']] == ['disc', 'triangle', 'rectangle', 'star', 'ring']
    order = [image['score'] for image in data['images']]
    assert order == sorted(order) and len(data['images']) == data['total']
    outcome = run(TOOL, str(work), '--out', 'page', cwd=page.parent)
    assert outcome.status == 1 and 'is not empty and is not overwritten' in outcome.sentence


@pytest.mark.slow
def test_a_detectors_page_in_a_browser(detectors_page):
    page, data = detectors_page, data_of(detectors_page)
    shown = in_browser(page)
    assert shown.count('<figure>') == min(24, data['total'])
    assert re.findall(r'<button[^>]* class="on">(.*?)</button>', shown)[0] == 'worst first'
    assert shown.count('<polyline') == sum(map(bool, data['curves']))
    assert all(f'images/{image["file"]}' in shown for image in data['images'][:24])
    clicked = in_browser(page, 'document.querySelector(\'button[data-label="3"]\').click()')
    classes = re.findall(r'data-class="(\w+)"', clicked)
    assert classes and set(classes) == {'star'} != set(re.findall(r'data-class="(\w+)"', shown))
    nothing = in_browser(
        page,
        "const slider = document.querySelector('input'); slider.value = 1; slider.dispatchEvent(new Event('input'));"
        'document.querySelector(\'button[data-order="best first"]\').click()',
    )
    truths = sum(len(image['gt']) for image in sorted(data['images'], key=lambda image: -image['score'])[:24])
    assert len(re.findall(r'data-class=', nothing)) == truths


@pytest.fixture(scope='module')
def segmentors_page(run, shapes, tmp_path_factory):
    """The page of three images of a segmentor with random weights, beside its work dir."""
    from mmengine.config import Config

    from mmatconv.analysis.build_model import build_model

    folder = tmp_path_factory.mktemp('segmentation')
    config = Config.fromfile(Path(__file__).parent / 'configs' / 'seg.py')
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(config, 'cpu').state_dict()), folder / 'seg.pth')
    arguments = ['--work-dir', 'work', '--out', 'work/predictions.pkl']
    assert run('test.py', 'seg.py', folder / 'seg.pth', *arguments, cwd=folder).status == 0
    outcome = run(TOOL, './work', '--out', 'page', '--count', '3', cwd=folder)
    assert outcome.status == 0, outcome.errors
    return folder / 'page'


@pytest.mark.slow
def test_figures_of_a_segmentor(segmentors_page):
    data = data_of(segmentors_page)
    (scores,) = (segmentors_page.parent / 'work').glob('*/*.json')
    measured = json.loads(scores.read_text().splitlines()[-1])
    assert float(data['metric'].removeprefix('mIoU ')) == pytest.approx(measured['mIoU'], abs=0.06)
    assert len(data['images']) == 3 < data['total']
    assert len(list((segmentors_page / 'images').iterdir())) == 9


@pytest.mark.slow
def test_a_segmentors_page_in_a_browser(segmentors_page):
    shown = in_browser(segmentors_page)
    assert shown.count('class="over"') == 6 and '<polyline' not in shown


def box(label, *corners, score=None):
    return dict(label=label, box=[*corners], **({} if score is None else dict(score=score)))


def test_matches_and_the_confusion_matrix():
    image = dict(
        gt=[box(0, 0, 0, 10, 10), box(1, 20, 20, 10, 10), box(1, 40, 40, 10, 10)],
        pred=[
            box(0, 0, 0, 10, 9, score=0.9),
            box(0, 20, 20, 10, 10, score=0.8),
            box(1, 70, 70, 5, 5, score=0.5),
            box(1, 40, 40, 10, 10, score=0.2),
        ],
    )
    confusion = np.zeros((3, 3), dtype=int)
    detection._match(image, confusion, masks=False)
    # Right; a 1 called 0; background called 1; a 1 missed, its prediction being below the score that counts.
    assert confusion.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert [each.get('right') for each in image['pred']] == [True, False, False, None]
    assert image['score'] == pytest.approx(2 * 1 / 6, abs=1e-4)


def test_average_precision_of_known_boxes():
    info = dict(
        img_path='a.jpg', height=50, width=50, instances=[dict(bbox=[0, 0, 10, 10], bbox_label=0, ignore_flag=0)]
    )
    found = dict(scores=np.array([0.9]), labels=np.array([0]), bboxes=np.array([[0.0, 0, 10, 8]]))
    results = Results(['thing', 'other'], [(0, 0, 0)] * 2, {'a.jpg': dict(pred_instances=found)}, [info], None)
    summary = detection.summarise(results)
    # An overlap of 0.8 passes seven of the ten thresholds from 0.5 to 0.95.
    assert summary['table'] == [['thing', 70.0, 100.0, 100.0, 1, 1], ['other', None, None, None, 0, 0]]
    assert summary['metric'] == 'box AP 70.0' and summary['curves'][1] == []


class Evil:
    def __reduce__(self):
        return (print, ('run',))


@pytest.mark.parametrize('content', [Evil(), {}, [], [1]])
def test_files_that_are_not_predictions(tmp_path, content, capsys):
    path = tmp_path / 'x.pkl'
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r'x\.pkl. (is not a file|holds no list) of predictions'):
        read_predictions(path)
    assert capsys.readouterr().out == ''


def test_predictions_are_read_as_data_of_known_types(tmp_path):
    path = tmp_path / 'x.pkl'
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    prediction = dict(
        img_path='a.jpg', scores=torch.rand(2), bboxes=boxes, masks=[dict(counts=b'1\xff')], area=boxes[0, 1]
    )
    path.write_bytes(pickle.dumps([prediction], protocol=2))  # as MMEngine writes it
    (read,) = read_predictions(path)
    assert torch.equal(read['scores'], prediction['scores']) and np.array_equal(read['bboxes'], boxes)
    assert read['masks'] == [dict(counts=b'1\xff')] and read['area'] == 1
    # Arrays of objects, and memory that numpy is told to take for objects.
    for trick in (np.array([{}], dtype=object), np.dtype([('a', 'O')])):
        path.write_bytes(pickle.dumps([dict(trick=trick)], protocol=2))
        with pytest.raises(UserError, match=r'is not a file of predictions \(Unsupported .*numpy'):
            read_predictions(path)


def test_a_checkpoint_in_the_place_of_predictions(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match=r'not a file of predictions \(it is a checkpoint, or another zip file\)'):
        read_predictions(tmp_path / 'epoch_1.pth')


def test_bad_sources(run, tmp_path):
    outcome = run(TOOL, './nothing', cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence.startswith("'nothing' does not exist")
    (tmp_path / 'empty').mkdir()
    outcome = run(TOOL, './empty', cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence.startswith("'empty' holds no predictions; run tools/test.py")
