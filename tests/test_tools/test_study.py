"""tools/analysis_tools/study.py on a small data set."""

import json

import pytest
import yaml

from .conftest import CONFIGS, Outcome


@pytest.fixture
def protocol(tmp_path):
    logger = {'default_hooks.logger': dict(type='LoggerHook', interval=1)}
    competitors = {
        'ATConv': {'model.backbone.token_mixer': dict(type='ATConv'), **logger},
        'diverges': {'model.decode_head.loss_decode.loss_weight': 1e39, **logger},
    }
    entries = dict(
        title='Shapes',
        config=str(CONFIGS / 'seg.py'),
        metrics=['mIoU'],
        learning_rates=[0.001],
        seeds=[0, 1],
        image_size=[64, 64],
        competitors=competitors,
        groups=[dict(title='Mixers', reference='ATConv', members=list(competitors))],
    )
    path = tmp_path / 'small.yml'
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


def finish(process):
    output, errors = process.communicate(timeout=300)
    return Outcome(process.returncode, output, errors)


@pytest.mark.slow
def test_a_study_is_run_once_and_written_to_a_page(start, protocol, tmp_path):
    page = tmp_path / 'docs' / 'study.md'
    page.parent.mkdir()
    page.write_text('# Study\n<!-- study small -->\n<!-- end of study small -->\n')
    call = 'analysis_tools/study.py', str(protocol), '--jobs', 2, '--out'
    outcome = finish(start(*call, 'out', '--doc', page, cwd=tmp_path))
    assert outcome.status == 0, outcome.errors
    assert 'ATConv, learning rate 0.001, seed 1: test mIoU' in outcome.errors
    assert '4 of 4 trainings are done' in outcome.output
    runs = tmp_path / 'out/small/runs'
    failed = json.loads((runs / 'diverges_lr0.001_seed0/result.json').read_text())
    assert 'not finite' in failed['failed'] and not failed['validation']
    tested = json.loads((runs / 'atconv_lr0.001_seed1/result.json').read_text())
    assert set(tested['test']) >= {'mIoU'} and tested['validation']['mIoU'] >= 0
    assert '| ATConv | 0.001 |' in page.read_text()
    assert (page.parent / 'images/study_small.png').is_file()
    kept = json.loads((page.parent / 'study/small.json').read_text())
    assert set(kept['runs']) == {path.name for path in runs.iterdir()}
    assert kept['costs']['ATConv']['image'] > 0

    # Elsewhere, the runs of before count: nothing is trained or timed again.
    outcome = finish(start(*call, 'elsewhere', '--earlier', page.parent / 'study/small.json', cwd=tmp_path))
    assert '4 of 4 trainings are done' in outcome.output
    assert not (tmp_path / 'elsewhere/small/runs').exists()


def test_what_ends_a_run_is_said_and_the_run_is_repeated(start, protocol, tmp_path):
    call = 'analysis_tools/study.py', str(protocol), '--jobs', 1, '--out', 'out'
    outcome = finish(start(*call, '--doc', tmp_path / 'none.md', cwd=tmp_path))
    assert 'cannot be read' in outcome.sentence and not (tmp_path / 'out/small/runs').exists()
    outcome = finish(start(*call, cwd=tmp_path, SHAPES=str(tmp_path / 'nowhere')))
    assert outcome.sentence.startswith("run 'out/small/runs/atconv_lr0.001_seed0' ended without a result: ")
    assert outcome.status == 1 and 'nowhere' in outcome.sentence
    (run,) = (tmp_path / 'out/small/runs').iterdir()
    assert not (run / 'result.json').exists()


def test_a_wrong_option_is_one_sentence(run, protocol, tmp_path):
    outcome = run('analysis_tools/study.py', str(protocol), '--out', tmp_path / 'out', '--jobs', 0, cwd=tmp_path)
    assert outcome.sentence == '--jobs must be at least 1, but is 0'
    outcome = run('analysis_tools/study.py', str(tmp_path / 'no.yml'), '--out', tmp_path / 'out', cwd=tmp_path)
    assert 'no.yml' in outcome.sentence and 'cannot be read' in outcome.sentence
