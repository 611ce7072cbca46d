"""The list of configs says what the metafiles say, and is not older than they."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mmatconv.analysis.model_zoo import BLOCK, quickstart_results, render, render_pages

ROOT = Path(__file__).parents[2]


def test_the_committed_pages_are_up_to_date():
    pages = render_pages(ROOT)
    assert {ROOT / 'configs' / 'README.md', ROOT / 'README.md'} <= set(pages)
    for path, text in pages.items():
        assert path.read_text() == text, 'run tools/analysis_tools/model_zoo.py'


FIGURE = re.compile(r'([\d.]*\d)\)?,? ((?:box|mask) AP(?:50)?|mIoU)|(AP50) ([\d.]*\d)')


def quoted(text):
    """The figures of the quickstart that a page quotes: those of paragraphs that name it or its data."""
    paragraphs = [part for part in re.split(r'\n\s*\n', text) if re.search('quickstart|generated data', part, re.I)]
    return [(a or d, b or c) for part in paragraphs for a, b, c, d in FIGURE.findall(part)]


def test_every_figure_of_the_quickstart_is_the_metafiles():
    results = quickstart_results(ROOT)
    allowed = {(str(value), name) for name, value in results.items()}
    allowed |= {(value, 'AP50') for value, name in allowed if name.endswith('AP50')}
    found = {path.name: quoted(path.read_text()) for path in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'))}
    assert found['README.md'] and BLOCK.search((ROOT / 'README.md').read_text())
    assert {figure for figures in found.values() for figure in figures} <= allowed
    # What the README said of another run.
    stale = "the quickstart's results are 0.690 box AP (AP50 0.918) and 0.633 mask\nAP, 73.8 mIoU"
    assert not set(quoted(stale)[:2]) & allowed


def test_a_run_of_the_quickstart_becomes_metafile_pages_and_picture(tmp_path):
    root, run = tmp_path / 'project', tmp_path / 'run'
    for name in ('README.md', 'model-index.yml', *yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    log = run / 'mask-rcnn' / '20260101_000000'
    log.mkdir(parents=True)
    scores = {'coco/bbox_mAP': 0.7123, 'coco/bbox_mAP_50': 0.5, 'coco/segm_mAP': 0.6, 'coco/segm_mAP_50': 0.81}
    (log / f'{log.name}.json').write_text(json.dumps(scores))
    noise = np.random.default_rng(0).integers(0, 255, (900, 1500, 3), np.uint8)
    Image.fromarray(noise).save(run / 'predictions.png')
    tool = [sys.executable, 'tools/analysis_tools/model_zoo.py', '--root', str(root), '--quickstart']
    result = subprocess.run([*tool, str(run)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr

    before, after = ((base / 'configs/quickstart/metafile.yml').read_text().splitlines() for base in (ROOT, root))
    changed = [line.strip() for line, old in zip(after, before, strict=True) if line != old]
    assert changed == ['Metrics: {box AP: 71.2, box AP50: 50.0}', 'Metrics: {mask AP: 60.0, mask AP50: 81.0}']
    assert '71.2 box AP (AP50 50.0), 60.0 mask AP (AP50 81.0)' in (root / 'README.md').read_text()
    assert '71.2 box AP' in (root / 'configs' / 'README.md').read_text()
    picture = root / 'docs' / 'images' / 'quickstart.jpg'
    assert picture.stat().st_size < 300_000 and Image.open(picture).width == 1200

    (run / 'predictions.png').unlink()
    result = subprocess.run([*tool, str(run)], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1 and result.stderr.count('\n') == 1 and 'predictions.png' in result.stderr


def test_rows_keep_the_papers_results_and_ours_apart():
    lines = render(ROOT).splitlines()
    (detection,) = [line for line in lines if '[mask-rcnn_attnet-t2_fpn_1x_coco]' in line]
    assert detection.split(' | ')[1:] == ['46.7 M', 'V', '47.3 box AP, 42.6 mask AP', 'not trained yet |']
    (ours,) = [line for line in lines if '[mask-rcnn_attnet-xxs_fpn_shapes]' in line]
    results = quickstart_results(ROOT)
    assert ours.split(' | ')[3:] == ['', f'{results["box AP"]} box AP, {results["mask AP"]} mask AP |']
    assert '(mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py)' in detection


def test_a_missing_index_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"model-index.yml' does not exist; run this in a checkout"):
        render(tmp_path)
    tool = [sys.executable, 'tools/analysis_tools/model_zoo.py', '--root', str(tmp_path)]
    result = subprocess.run(tool, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1 and result.stderr.count('\n') == 1 and 'does not exist' in result.stderr
