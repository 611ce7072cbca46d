"""The list of configs says what the metafiles say, and is not older than they."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmatconv.analysis.model_zoo import render

ROOT = Path(__file__).parents[2]


def test_the_committed_list_is_up_to_date():
    assert (ROOT / 'configs' / 'README.md').read_text() == render(ROOT), 'run tools/analysis_tools/model_zoo.py'


def test_rows_keep_the_papers_results_and_ours_apart():
    lines = render(ROOT).splitlines()
    (detection,) = [line for line in lines if '[mask-rcnn_attnet-t2_fpn_1x_coco]' in line]
    assert detection.split(' | ')[1:] == ['46.7 M', 'V', '47.3 box AP, 42.6 mask AP', 'not trained yet |']
    (ours,) = [line for line in lines if '[mask-rcnn_attnet-xxs_fpn_shapes]' in line]
    assert ours.split(' | ')[3:] == ['', '70.2 box AP, 65.6 mask AP |']
    assert '(mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py)' in detection


def test_a_missing_index_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"model-index.yml' does not exist; run this in a checkout"):
        render(tmp_path)
    tool = [sys.executable, 'tools/analysis_tools/model_zoo.py', '--root', str(tmp_path)]
    result = subprocess.run(tool, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1 and result.stderr.count('\n') == 1 and 'does not exist' in result.stderr
