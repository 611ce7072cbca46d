"""tools/analysis_tools/routing.py and inhibition.py: pictures and numbers, trained and bare, and what they refuse."""

import json
from pathlib import Path

import cv2
import pytest

CONFIG = 'tests/test_tools/configs/det.py'


@pytest.fixture
def photo(shapes):
    return str(sorted((shapes / 'coco' / 'val').iterdir())[0])


def test_bare_layers_side_by_side(run, photo, tmp_path):
    options = ['--size', '64', '--dim', '16', '--positions', '2', '--layers', 'ATConv 3x3,DWConv 7x7,global attention']
    outcome = run('analysis_tools/routing.py', photo, *options, '--out', 'seen', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    rows = {row['layer']: row for row in json.loads((tmp_path / 'seen/routing.json').read_text())}
    assert list(rows) == ['ATConv 3x3', 'DWConv 7x7', 'global attention']
    assert rows['DWConv 7x7']['far'] < rows['ATConv 3x3']['far']
    picture = cv2.imread(str(tmp_path / 'seen' / f'{Path(photo).stem}_routing.png'))
    assert picture.shape[1] > 600 and picture.std() > 10
    assert 'DWConv 7x7' in outcome.output and "'seen' is written" in outcome.output


def test_a_trained_detector(run, detector, photo, tmp_path):
    model = ['--config', CONFIG, '--checkpoint', detector / 'epoch_2.pth']
    outcome = run('analysis_tools/inhibition.py', photo, *model, '--out', 'seen', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    rows = json.loads((tmp_path / 'seen/inhibition.json').read_text())
    assert len(rows) >= 4 and rows[0]['layer'] == '0.0'
    for row in rows:
        assert 0 < row['csc'] and 1 / row['channels'] < row['cer'] <= 1 and row['csc'] != row['csc_without']
    for name in ('inhibition.png', f'{Path(photo).stem}_kernels.png'):
        assert cv2.imread(str(tmp_path / 'seen' / name)).std() > 10

    outcome = run('analysis_tools/routing.py', photo, *model, '--positions', '1', '--out', 'routes', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    (row,) = json.loads((tmp_path / 'routes/routing.json').read_text())
    assert row['layer'].startswith('ATConv 2.') and row['far'] > 0

    outcome = run('analysis_tools/routing.py', photo, *model, '--place', '7.0', '--out', 'none', cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence.startswith('the backbone has no token mixer at stage.block 7.0')
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
    ('tool', 'options', 'sentence'),
    [
        ('routing', ['--layers', 'attention'], "there is no layer 'attention' to compare; choose from ATConv 3x3, "),
        ('routing', ['--layers', 'none'], 'there is nothing to look at; give --config and --checkpoint'),
        ('routing', ['--config', CONFIG], '--config and --checkpoint belong together'),
        ('inhibition', ['--sigma', '0'], '--sigma 0.0 is not a width of a blur'),
    ],
)
def test_bad_options(run, photo, tmp_path, tool, options, sentence):
    outcome = run(f'analysis_tools/{tool}.py', photo, *options, '--out', 'seen', cwd=tmp_path)
    assert outcome.status == 1 and sentence in outcome.sentence, outcome.errors
    assert not (tmp_path / 'seen').exists()
