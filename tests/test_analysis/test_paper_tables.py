"""The paper's figures beside the counted ones."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mmatconv.analysis.paper import memory, sit
from mmatconv.analysis.paper.figures import DIFFERS, MATCH, TRUNCATED, UNITS, UNPRINTED, check, compare
from mmatconv.analysis.paper.models import (
    atconv_pvt,
    atconv_swin,
    attnet,
    convnext_tiny,
    counted,
    inline_pvt,
    multiply_adds,
    pvt,
    pvt_v2,
    resnet50,
    swin,
    without_attention_products,
)
from mmatconv.analysis.paper.render import FORMATS, as_markdown, summary
from mmatconv.analysis.paper.tables import SECTION_III_D, TABLE_VIII, TABLES
from mmatconv.errors import UserError

TOOL = Path('tools/analysis_tools/paper_tables.py')


def cheap():
    """What is counted in seconds."""
    return [
        (table, [figure for row in table.rows for figure in check(table, row)]) for table in (TABLE_VIII, SECTION_III_D)
    ]


@pytest.mark.parametrize(
    ('printed', 'value', 'verdict'),
    [
        ('13.7', 13.7149, MATCH),
        ('27.00', 27.004062, MATCH),
        ('49.1', 49.175682, TRUNCATED),
        ('240', 239.82, MATCH),
        ('496', 496.91, TRUNCATED),
        ('5.15', 5.1436, DIFFERS),
        ('9.2', 9.25, TRUNCATED),
        ('9.3', 9.25, MATCH),
        (None, 1.0, UNPRINTED),
    ],
)
def test_verdicts(printed, value, verdict):
    assert compare(printed, value) == verdict


def test_a_wrong_figure_of_the_paper_differs():
    row = TABLE_VIII.rows[0]
    right = check(TABLE_VIII, row)[0]
    wrong = check(TABLE_VIII, replace(row, printed=dict(params='131.32')))[0]
    assert (right.verdict, wrong.verdict) == (MATCH, DIFFERS)
    assert wrong.difference == pytest.approx(-1.004192)
    page = as_markdown([(TABLE_VIII, [wrong])])
    assert '| 131.32 | 130.3158 | differs by -1.004 |' in page
    assert '1 figures checked, 0 match (0 of them truncated), 1 do not reproduce' in page


@pytest.mark.parametrize(
    ('arch', 'mixer', 'params', 'macs'),
    [
        ('B/2', 'attention', 130315808, 106.38),
        ('B/2', 'hybrid', 126777404, 93.14),
        ('B/2', 'atconv', 123239000, 79.89),
        ('L/2', 'attention', 457840672, 360.98),
        ('L/2', 'hybrid', 445258840, 322.44),
        ('L/2', 'atconv', 432677008, 283.90),
        ('XL/2', 'attention', 674834720, 524.54),
        ('XL/2', 'hybrid', 656256524, 471.84),
        ('XL/2', 'atconv', 637678328, 419.14),
    ],
)
def test_models_of_table_viii(arch, mixer, params, macs):
    count, _ = sit.complexity(arch, mixer)
    assert (count.params, round(count.macs / 1e9, 2)) == (params, macs)
    assert not count.uncounted


def test_sit_at_256_pixels_and_with_the_pooling_first():
    small, pooling_first = sit.complexity('B/2', 'atconv', 32)
    assert (round(small.macs / 1e9, 2), round(pooling_first.macs / 1e9, 2)) == (20.01, 18.26)
    assert round(sit.figures('XL/2', 'atconv')['flops'].pooling_first, 2) == 381.43
    assert sit.figures('B/2', 'attention')['flops'].pooling_first is None


def test_memory_of_equation_15():
    assert round(memory.attention(28), 2) == 92.64
    assert round(memory.atconv(28), 2) == 18.59
    assert (memory.attention(56), round(memory.atconv(56), 2)) == (820.75, 73.71)


@pytest.mark.parametrize(
    ('form', 'backbone', 'options', 'params', 'flops'),
    [
        ('classifier', pvt('tiny'), dict(flops=multiply_adds), 13229288, 1.9329),
        ('classifier', pvt('medium'), dict(flops=multiply_adds), 44208104, 6.6592),
        ('classifier', pvt_v2('b2'), {}, 25362856, 4.0458),
        ('classifier', swin('tiny'), {}, 28288354, 4.5092),
        ('classifier', resnet50(), dict(flops=multiply_adds), 25557032, 4.0892),
        ('classifier', convnext_tiny(), dict(flops=multiply_adds), 28589128, 4.4555),
        ('classifier', swin('base', window_size=12), dict(size=(384, 384)), 87903584, 47.1915),
        ('classifier', atconv_swin('base'), dict(size=(384, 384)), 84164312, 42.1421),
        ('mask_rcnn', pvt('tiny'), {}, 32881648, 239.8221),
        ('mask_rcnn', pvt('tiny'), dict(flops=multiply_adds), 32881648, 239.5653),
        ('mask_rcnn', atconv_pvt('tiny'), dict(flops=multiply_adds), 29852608, 206.9485),
        ('mask_rcnn', swin('tiny'), dict(flops=without_attention_products), 47794602, 263.9035),
        ('mask_rcnn', attnet('T2'), dict(flops=multiply_adds), 46655974, 273.8854),
        ('sem_fpn', pvt('tiny'), dict(flops=multiply_adds), 16980886, 157.7226),
        ('sem_fpn', inline_pvt('tiny'), dict(flops=multiply_adds), 15785878, 127.0493),
        ('classifier', inline_pvt('small'), {}, 21557160, 3.9315),
        ('sem_fpn', atconv_pvt('tiny'), dict(flops=multiply_adds), 13951846, 123.5429),
    ],
)
def test_models_of_the_tables(form, backbone, options, params, flops):
    figures = counted(form, backbone, **options)
    assert (round(figures['params'].value * 1e6), round(figures['flops'].value, 4)) == (params, flops)


@pytest.mark.parametrize(
    ('mixer', 'params', 'flops'),
    [
        (dict(type='ATConv', kernel_size=(7, 5, 3, 3)), 27019542, 5.1394),
        (dict(type='ATConvStep', step='kernel_generator'), 22640670, 4.3584),
        (dict(type='ATConvStep', step='kernel_difference'), 27004062, 5.1098),
        (dict(type='Conv'), 40038228, 7.3467),
        (dict(type='DepthwiseConv', kernel_size=5), 20631444, 4.0123),
        (dict(type='HydraAttention'), 29183508, 5.4681),
        (dict(type='InLineAttention', num_heads=(2, 4, 8, 16)), 31632468, 5.6338),
        (dict(type='RankAugAttention', num_heads=(2, 2, 4, 8)), 31539924, 6.1114),
    ],
)
def test_mixers_of_table_ix(mixer, params, flops):
    figures = counted('classifier', attnet('T2', token_mixer=mixer))
    assert (round(figures['params'].value * 1e6), round(figures['flops'].value, 4)) == (params, flops)


def test_attnet_counts_less_with_the_pooling_first_and_attention_does_not():
    figure = counted('mask_rcnn', attnet('T2'), flops=multiply_adds)['flops']
    assert round(figure.value - figure.pooling_first, 2) == 7.65
    assert counted('classifier', swin('tiny'))['flops'].pooling_first is None


def test_every_differing_figure_has_a_reason_and_every_row_a_name_of_its_own():
    for _, figures in cheap():
        assert [figure.model for figure in figures if figure.verdict == DIFFERS and not figure.reason] == []
    for table in TABLES:
        assert len({row.model for row in table.rows}) == len(table.rows)
        for row in table.rows:
            assert set(row.reasons) <= set(UNITS) and set(row.printed) <= set(UNITS)


def test_documentation_is_what_the_command_writes():
    page = Path('docs/paper_tables.md').read_text()
    for section in as_markdown(cheap()).split('## ')[1:]:
        assert section.strip() in page
    for table in TABLES:
        for row in table.rows:
            assert f'| {row.model} | {next(iter(row.printed.values()))} |' in page or table is SECTION_III_D


def test_formats_hold_every_row():
    checked = cheap()
    for name, render in FORMATS.items():
        text = render(checked)
        for table in (TABLE_VIII, SECTION_III_D):
            for row in table.rows:
                assert row.model in text, name
        assert '13 figures checked, 11 match (0 of them truncated), 2 do not reproduce' in text
    assert summary(checked).startswith('13 figures')
    page = json.loads(FORMATS['json'](checked))
    figure = next(figure for figure in page['figures'] if figure['model'] == 'SiT-Hybrid-L/2')
    assert (figure['paper'], figure['counted'], figure['unit']) == ('445.21', 445.25884, 'M')
    assert (figure['verdict'], 'slip' in figure['reason']) == (DIFFERS, True)


def test_tables_are_chosen_by_number():
    spec = importlib.util.spec_from_file_location('paper_tables', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    names = [table.name for table in tool.choose(TABLES, ['ix', 'I', ' iii-d', 'IX(a)'])]
    assert names == ['IX(a)', 'IX(b)', 'IX(c)', 'I', 'III-D']
    with pytest.raises(UserError, match="there is no table 'X'; choose from I, II, III, IV"):
        tool.choose(TABLES, ['X'])


def test_a_row_of_table_i():
    table = TABLES[0]
    params, flops = check(table, table.rows[2])
    assert (params.table, params.model, params.paper, params.counted) == ('I', 'AttNet-T3', '49.1', 49.175682)
    assert (params.verdict, flops.verdict) == (TRUNCATED, MATCH)
    assert params.difference == pytest.approx(0.075682)
    assert (round(flops.counted, 4), round(flops.pooling_first, 4)) == (9.4150, 8.7349)


def test_command_writes_json_alone_to_its_output():
    # The table that is counted in no time; what other tables look like is in test_formats_hold_every_row.
    command = [sys.executable, str(TOOL), '--tables', 'III-D', '--format', 'json']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    page = json.loads(result.stdout)
    rows = [(figure['table'], figure['model']) for figure in page['figures']]
    assert rows == [(SECTION_III_D.name, row.model) for row in SECTION_III_D.rows]
    assert page['summary'] == '4 figures checked, 3 match (0 of them truncated), 1 do not reproduce'


def test_wrong_option_is_one_sentence():
    result = subprocess.run([sys.executable, str(TOOL), '--format', 'pdf'], capture_output=True, text=True)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert result.stderr.startswith("error: argument --format: invalid choice: 'pdf'")
