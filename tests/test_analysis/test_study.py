"""Studies: the protocol, which run comes next, what is chosen, said and written. No training: see test_tools."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from mmatconv.analysis.study.collect import read_collected
from mmatconv.analysis.study.protocol import fingerprint, read_study
from mmatconv.analysis.study.report import markdown, plot, write_section
from mmatconv.analysis.study.results import Result, Results, check_fingerprints, verdict
from mmatconv.analysis.study.schedule import Task, finished, tasks, total
from mmatconv.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = sorted(path for path in (ROOT / 'configs/study').glob('*.yml') if path.stem != 'metafile')
ENTRIES = dict(
    title='Shapes',
    config=str(ROOT / 'tests/test_tools/configs/seg.py'),
    metrics=['mIoU'],
    learning_rates=[0.001, 0.01],
    seeds=[0, 1],
    image_size=[64, 64],
    competitors={
        'ATConv': {'model.backbone.token_mixer': dict(type='ATConv')},
        'depthwise 3x3': {'model.backbone.token_mixer': dict(type='DepthwiseConv')},
    },
    groups=[dict(title='Mixers', reference='ATConv', members=['ATConv', 'depthwise 3x3'])],
)


@pytest.fixture
def study(tmp_path):
    (tmp_path / 'shapes.yml').write_text(yaml.safe_dump(ENTRIES, sort_keys=False))
    return read_study(tmp_path / 'shapes.yml')


def add(results, run, validation, test=None):
    test = {} if test is None else {'mIoU': test}
    results.by_name[run.name] = Result('', {'mIoU': validation}, test, seconds=10)


def complete(study, results, name, scores):
    """The second rate is the better one on validation; ``scores`` are those on the test split."""
    first, second = study.searches(name)
    add(results, first, 10)
    for run, score in zip(study.results(name, second.learning_rate), scores):
        add(results, run, 20, score)


@pytest.mark.parametrize('path', PROTOCOLS, ids=lambda path: path.stem)
def test_protocols_of_the_project_fit_their_configs_and_the_results_that_are_kept(path):
    study = read_study(path)
    kept = read_collected(ROOT / f'docs/study/{study.name}.json', study.name)['runs']
    texts = set()
    for name in study.members:
        run = study.searches(name)[-1]
        config = study.config_of(run)
        assert config.optim_wrapper.optimizer.lr == study.learning_rates[-1]
        assert config.randomness.seed == study.seeds[0]
        assert config.val_dataloader.dataset != config.test_dataloader.dataset
        texts.add(fingerprint(config))
        assert run.name not in kept or kept[run.name]['fingerprint'] == fingerprint(config), run
    assert len(texts) == len(study.members)


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(extra=1), "has the unknown entry 'extra'"),
        (dict(seeds=None), 'seeds must be a list'),
        (dict(seeds=['one']), 'seeds must be a list of numbers that differ'),
        (dict(seeds=[1, 1]), 'seeds must be a list of numbers that differ'),
        (dict(image_size=[64]), 'image_size must be a list of 2 numbers'),
        (dict(metrics=['IoU']), 'choose from'),
        (dict(competitors={'a b': None, 'A-B': None}), 'must differ in letters and digits'),
        (dict(groups=[dict(title='', reference='ATConv', members=['PVT'])]), "there is no competitor 'PVT'"),
        (dict(groups=[dict(title='', reference='ATConv', members=['depthwise 3x3'])]), 'must be one of members'),
        (dict(groups=[dict(title='')]), "lacks the entry 'reference'"),
    ],
)
def test_a_wrong_protocol_is_one_sentence(tmp_path, changes, sentence):
    path = tmp_path / 'wrong.yml'
    path.write_text(yaml.safe_dump({**ENTRIES, **changes}))
    with pytest.raises(UserError, match=sentence):
        read_study(path)


def test_unreadable_protocols_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        read_study(tmp_path / 'missing.yml')
    (tmp_path / 'broken.yml').write_text('a: [')
    with pytest.raises(UserError, match='is not YAML'):
        read_study(tmp_path / 'broken.yml')


def test_rates_are_tried_first_then_seeds_and_each_is_tested_once(study, tmp_path):
    results = Results(study, tmp_path)
    waiting = list(tasks(study, results))
    assert [(task.run.competitor, task.run.learning_rate) for task in waiting] == [
        ('ATConv', 0.001),
        ('depthwise 3x3', 0.001),
        ('ATConv', 0.01),
        ('depthwise 3x3', 0.01),
    ]
    low, high = study.searches('ATConv')
    add(results, low, 30)
    assert results.chosen('ATConv') is None
    add(results, high, 20)
    assert results.chosen('ATConv') == 0.001
    # The chosen run is tested where its weights are, and repeated where they are not.
    assert Task(low, test=False) in tasks(study, results)
    folder = tmp_path / 'runs' / low.name
    folder.mkdir(parents=True)
    (folder / 'iter_4.pth').write_bytes(b'')
    (folder / 'last_checkpoint').write_text('/elsewhere/iter_4.pth')
    assert Task(low, test=True) in tasks(study, results)
    add(results, low, 30, 25)
    assert [task for task in tasks(study, results) if task.run.competitor == 'ATConv'] == [
        Task(dataclasses.replace(low, seed=1), test=False)
    ]
    assert (finished(study, results), total(study)) == (2, 6)


def test_a_learning_rate_that_fails_is_not_chosen(study, tmp_path):
    results = Results(study, tmp_path)
    low, high = study.searches('ATConv')
    add(results, low, 1)
    results.by_name[high.name] = Result('', failed='the loss is not finite')
    assert results.chosen('ATConv') == 0.001
    results.by_name[low.name] = Result('', failed='the loss is not finite')
    assert results.chosen('ATConv') is None
    assert not [task for task in tasks(study, results) if task.run.competitor == 'ATConv']
    assert finished(study, results) == 3


@pytest.mark.parametrize(
    ('values', 'reference', 'said'),
    [
        ([50.0, 50.2, 49.8], [40.0, 40.2, 39.8], 'better'),
        ([40.0, 40.2, 39.8], [50.0, 50.2, 49.8], 'worse'),
        # Every seed is better, but the seeds differ more than that.
        ([50.0, 45.0, 41.0], [40.0, 38.0, 39.8], 'no difference shown'),
        ([50.0, 50.2], [40.0, 40.2, 39.8], ''),
        ([50.0], [40.0], ''),
    ],
)
def test_better_is_said_only_where_the_seeds_allow_it(values, reference, said):
    assert verdict(values, reference, 3) == said


def test_runs_of_another_protocol_are_refused(study, tmp_path):
    results = Results(study, tmp_path)
    run = study.searches('ATConv')[0]
    results.by_name[run.name] = Result(fingerprint(study.config_of(run)), {'mIoU': 1})
    check_fingerprints(results)
    results.by_name[run.name].fingerprint = '0'
    with pytest.raises(UserError, match='another config'):
        check_fingerprints(results)


def test_the_report_says_what_is_missing(study, tmp_path):
    results = Results(study, tmp_path)
    complete(study, results, 'ATConv', [41.0, 43.0])
    add(results, study.searches('depthwise 3x3')[0], 5)
    cost = dict(params=2_500_000, macs=1_500_000_000, step=0.25, image=0.0125)
    content = dict(
        command='python study.py', timed_on=dict(cpu='fast'), versions=dict(torch='2'), costs=dict(ATConv=cost)
    )
    text = markdown(study, results, content)
    assert '| ATConv | 0.01* | 42.0 ± 1.4 |  | 2.50 | 1.500 | 250 | 12.5 |' in text
    assert '| depthwise 3x3 |  | not run yet |  |  |  |  |  |' in text
    assert '4 of 6 trainings are done' in text
    complete(study, results, 'depthwise 3x3', [30.0])
    assert '| depthwise 3x3 | 0.01* | 30.0 (1 of 2 seeds) |  |' in markdown(study, results, content)
    alone = dataclasses.replace(study, learning_rates=(0.01,))
    assert '| ATConv | 0.01 | 42.0 ± 1.4 |' in (text := markdown(alone, results, content))
    assert '*' not in text.replace('**', '')
    plot(study, results, content, tmp_path / 'figure.png')
    assert (tmp_path / 'figure.png').stat().st_size > 10_000


@pytest.mark.parametrize('content', [None, 'a: [', '[]', '{"study": "other", "runs": {}}'])
def test_results_that_are_not_of_the_study_are_one_sentence(tmp_path, content):
    path = tmp_path / 'results.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"results\.json' (cannot be read|holds no results)"):
        read_collected(path, 'shapes')


def test_a_section_of_a_page_is_replaced(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- study x -->\nold\n<!-- end of study x -->\nb\n')
    write_section(page, 'x', r'new \1')
    assert page.read_text() == 'a\n<!-- study x -->\nnew \\1\n<!-- end of study x -->\nb\n'
    with pytest.raises(UserError, match='has no place for the study'):
        write_section(page, 'y', 'new')


@pytest.mark.parametrize('path', PROTOCOLS, ids=lambda path: path.stem)
def test_the_page_repeats_the_results_that_are_kept(path):
    """docs/study.md is what the tool writes from docs/study/*.json."""
    study = read_study(path)
    content = read_collected(ROOT / f'docs/study/{study.name}.json', study.name)
    results = Results(study, ROOT / 'nowhere', content['runs'])
    page = (ROOT / 'docs/study.md').read_text(encoding='utf-8')
    assert f'<!-- study {study.name} -->\n{markdown(study, results, content)}\n<!-- end' in page
