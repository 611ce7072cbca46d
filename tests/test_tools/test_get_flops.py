"""get_flops.py on a detector, a segmentor, a classifier, and on what it cannot count."""

import importlib.util
from pathlib import Path

import pytest

from mmatconv.analysis.complexity.config_complexity import count_config
from mmatconv.engine.cli.config_file import load_config
from mmatconv.errors import UserError

CONFIGS = Path(__file__).parent / 'configs'
TOOL = 'analysis_tools/get_flops.py'
MODULES = ['backbone', 'neck', 'rpn_head', 'roi_head', 'roi_head.bbox_head', 'roi_head.mask_head']


def load_tool():
    spec = importlib.util.spec_from_file_location('get_flops', Path('tools', TOOL))
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def rows(output):
    """The numbers of the table by module."""
    cells = [[cell.strip() for cell in line.split('│')[1:-1]] for line in output.splitlines() if line.startswith('│')]
    return {name: tuple(map(float, numbers)) for name, *numbers in cells}


def test_detector_counts_its_roi_heads_on_fixed_numbers_of_rois(run, tmp_path):
    outcome = run(TOOL, 'det.py', '--shape', 96, 64, cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert 'det.py at 96 x 64' in outcome.output
    table = rows(outcome.output)
    assert list(table) == [
        'backbone',
        'neck',
        'rpn_head',
        'roi_head',
        'roi_head.bbox_head',
        'roi_head.mask_head',
        'total',
    ]
    boxes = 1000 * (7 * 7 * 16 * 32 + 32 * 32 + 32 * 6 + 32 * 4 * 5)
    masks = 100 * 14 * 14 * (16 * 16 * 9 + 16 * 16 * 4 + 4 * 16 * 5)
    assert table['roi_head.bbox_head'][2] == round(boxes / 1e9, 3) == 0.027
    assert table['roi_head.mask_head'][2] == round(masks / 1e9, 3) == 0.072
    assert table['roi_head'][2] == round((boxes + masks) / 1e9, 3)
    assert 'RoI heads are counted on 1000 RoIs for boxes and 100 for masks.' in outcome.output
    assert 'as fvcore counts' in outcome.output and 'Not counted' not in outcome.output


def test_segmentor_is_counted_at_512_x_2048(run, tmp_path):
    outcome = run(TOOL, 'seg.py', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert 'seg.py at 512 x 2048' in outcome.output and 'RoI' not in outcome.output
    table = rows(outcome.output)
    # Convolutions of FPN's head: one 3x3 on the finest map, 1, 2 and 3 on the others, then 1x1 to six classes.
    macs = 16 * 16 * 9 * (128 * 512 + 64 * 256 * 1 + 32 * 128 * (1 + 4) + 16 * 64 * (1 + 4 + 16)) + 16 * 6 * 128 * 512
    assert table['decode_head'][2] == round(macs / 1e9, 3)
    assert table['total'][0] == pytest.approx(
        sum(table[name][0] for name in ('backbone', 'neck', 'decode_head')), abs=2e-3
    )


def test_classifier_in_the_order_of_the_paper(run, tmp_path, environment, monkeypatch):
    outcome = run(TOOL, 'cls.py', '--paper-order', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert 'cls.py at 224 x 224' in outcome.output
    assert 'ATConv is counted in the order of the paper' in outcome.output
    monkeypatch.setenv('SHAPES', environment['SHAPES'])
    first, paper = (count_config(load_config(str(CONFIGS / 'cls.py')), None, order)[2] for order in (False, True))
    params, flops, macs = rows(outcome.output)['total']
    assert (params, flops, macs) == tuple(
        round(n, 3) for n in (paper.params / 1e6, paper.flops / 1e9, paper.macs / 1e9)
    )
    # kernel_proj on all pixels instead of nine.
    more = sum(dim * dim * (side * side - 9) for dim, side in zip((8, 16, 24, 32), (56, 28, 14, 7)))
    assert paper.macs - first.macs == paper.flops - first.flops == more
    assert paper.params == first.params


@pytest.mark.parametrize('shape', [['64', '64', '64'], ['64', '-3'], ['0'], ['6.5'], ['']])
def test_wrong_shapes(shape):
    with pytest.raises(UserError, match='is not a size; give height and width as positive whole numbers'):
        load_tool().read_size(shape)


def test_one_number_is_a_square():
    assert load_tool().read_size(['96']) == (96, 96)
    assert load_tool().read_size(['96', '64']) == (96, 64)


def test_wrong_shape_is_one_sentence(run, tmp_path):
    outcome = run(TOOL, 'cls.py', '--shape', '64', '-3', cwd=tmp_path)
    assert outcome.status == 1
    assert outcome.sentence == "--shape '64 -3' is not a size; give height and width as positive whole numbers"


def test_missing_config(run, tmp_path):
    outcome = run(TOOL, 'dett.py', cwd=tmp_path)
    assert outcome.status == 1
    assert 'does not exist; did you mean' in outcome.sentence


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ("model = dict(type='mmatconv.AttNet', arch='XXS')", 'model type AttNet cannot be counted'),
        ("default_scope = 'mmdet'", 'has no model to count'),
    ],
)
def test_config_without_a_model_that_can_be_counted(run, tmp_path, text, sentence):
    path = tmp_path / 'config.py'
    path.write_text(text + '\n')
    outcome = run(TOOL, str(path), cwd=tmp_path)
    assert outcome.status == 1
    assert sentence in outcome.sentence
