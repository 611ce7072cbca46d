"""Curves and tables from the logs of a run."""

import json
import subprocess
import sys

import cv2
import pytest

from mmatconv.analysis.run_report import read_evaluation, read_run
from mmatconv.errors import UserError


def write_log(work_dir, stamp, rows):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(row) for row in rows) + '\n')


def train(iteration, loss):
    return {'loss': loss, 'loss_cls': loss / 2, 'lr': 0.1, 'iter': iteration, 'step': iteration}


@pytest.fixture
def work_dir(tmp_path):
    """A training that was interrupted after iteration 20 and resumed from iteration 10, and one evaluation."""
    write_log(tmp_path, '20260101_000000', [train(10, 4.0), {'coco/bbox_mAP': 0.1, 'step': 1}, train(20, 9.0)])
    write_log(tmp_path, '20260101_000100', [train(20, 3.0), {'coco/bbox_mAP': 0.3, 'data_time': 1, 'step': 2}])
    (tmp_path / '20260101_000200').mkdir()
    scores = {'coco/bbox_mAP': 0.25, 'coco/segm_mAP_50': 0.5, 'time': 0.1}
    (tmp_path / '20260101_000200' / '20260101_000200.json').write_text(json.dumps(scores))
    return tmp_path


def test_a_resumed_training_is_one_curve(work_dir):
    log = read_run(work_dir)
    assert log.iterations == [10, 20]
    assert log.losses == {'loss': [4.0, 3.0], 'loss_cls': [2.0, 1.5]}
    assert log.metrics == {'coco/bbox_mAP': [(10, 0.1), (20, 0.3)]}


def test_evaluation_is_the_newest(work_dir):
    assert read_evaluation(work_dir) == {'coco/bbox_mAP': 0.25, 'coco/segm_mAP_50': 0.5}


def test_damaged_lines_cost_a_warning(work_dir, capsys):
    log = work_dir / '20260101_000100' / 'vis_data' / 'scalars.json'
    log.write_text('{"loss": 8.0, "iter": 15, "st\n' + log.read_text() + '[1]\n\n{"loss": 7.')
    later = work_dir / '20260101_000300' / '20260101_000300.json'
    later.parent.mkdir()
    later.write_text('{"coco/bbox_mAP": 0.25, "time": 0.2}6}')
    assert read_run(work_dir).losses == {'loss': [4.0, 3.0], 'loss_cls': [2.0, 1.5]}
    assert read_evaluation(work_dir) == {'coco/bbox_mAP': 0.25, 'coco/segm_mAP_50': 0.5}
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(' of ')[0] for line in warnings] == [f'warning: line {number}' for number in (1, 4, 6, 1)]
    assert warnings[-1] == f"warning: line 1 of '{later}' is damaged and is left out"


def test_folders_without_a_run_are_named(tmp_path):
    with pytest.raises(UserError, match='holds no log of a training'):
        read_run(tmp_path)
    with pytest.raises(UserError, match=r'holds no evaluation; run tools/test\.py'):
        read_evaluation(tmp_path)


def test_command_prints_the_table_and_draws(work_dir, tmp_path):
    plot = tmp_path / 'new' / 'curves.png'
    command = [sys.executable, 'tools/analysis_tools/report_run.py', str(work_dir), '--plot', str(plot)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        [work_dir.name, 'AP', 'AP50'],
        ['box', '25.0'],
        ['mask', '50.0'],
    ]
    picture = cv2.imread(str(plot))
    assert picture.shape[0] > 300 and picture.std() > 10
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    cv2.imwrite(str(pictures / '1.png'), picture[:100, :200])
    sheet = ['--quiet', '--pictures', str(pictures), '--sheet', str(tmp_path / 'sheet.png'), '--headings', 'a', 'b']
    result = subprocess.run([*command[:3], *sheet], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ''), result.stderr
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[0] > 100
    result = subprocess.run([*command[:2], str(tmp_path / 'none')], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith('error: ') and 'Traceback' not in result.stderr
