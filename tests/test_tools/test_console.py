"""What tools/train.py and tools/test.py show, and what only their log file holds."""

import re

import pytest

LINES = 30


@pytest.fixture(scope='module')
def trained(run, tmp_path_factory):
    """A detector trained for two epochs, in a pipe."""
    folder = tmp_path_factory.mktemp('console')
    outcome = run('train.py', 'det.py', '--work-dir', 'work', *FROZEN, cwd=folder)
    assert outcome.status == 0, outcome.errors
    return outcome, folder / 'work'


# A learning rate of its own for each parameter makes MMEngine log a line for each.
FROZEN = ('--cfg-options', 'optim_wrapper.paramwise_cfg.norm_decay_mult=0')


def log_of(work_dir):
    return max(work_dir.glob('2*/2*.log')).read_text()


def test_training_shows_what_runs_how_far_it_is_and_what_came_out(trained):
    outcome, work_dir = trained
    lines = outcome.output.splitlines()
    assert len(lines) < LINES and not outcome.errors
    assert lines[0].startswith('training ') and lines[0].endswith('det.py')
    assert re.search(r'MaskRCNN with AttNet, \d\.\d M parameters', outcome.output)
    assert re.search(r'training +4 images \(CocoDataset\), 2 epochs of 2, 2 at a time', outcome.output)
    assert re.search(r'validation +5 images \(CocoDataset\), every 2 epochs', outcome.output)
    assert re.search(r'device +CPU, 1 process of \d+ thread', outcome.output)
    assert re.search(r'^epoch 2/2, iteration 4/4  ETA 0:00:00  loss \d.*  lr 1.00e-03$', outcome.output, re.MULTILINE)
    start = next(i for i, line in enumerate(lines) if line.startswith('validation, epoch 2/2, iteration 4/4 '))
    header, box, mask = (line.split() for line in lines[start : start + 3])
    assert header[-6:] == ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']
    assert [row[0] for row in (box, mask)] == ['box', 'mask'] and len(box) == len(mask) == 7
    assert re.search(rf'checkpoint +{work_dir}/epoch_2.pth', outcome.output)
    assert re.search(r'log +\S+\.log$', outcome.output)
    assert '\r' not in outcome.output and '\x1b' not in outcome.output


def test_the_log_file_holds_the_rest(trained):
    outcome, work_dir = trained
    log = log_of(work_dir)
    for text in ('paramwise_options', 'System environment', 'optim_wrapper = dict(', 'Could not import OneDL',
                 'loading annotations into memory', 'Epoch(train) [2][2/2]', 'deprecated'):  # fmt: skip
        assert text not in outcome.output + outcome.errors
        assert text in log or text == 'Could not import OneDL'
    assert 'Epoch(val) [2][5/5]' in log
    # The guard against losses that are not finite stands where MMEngine's schedulers count steps.
    assert 'optimizer.step()' not in log


def test_verbose_is_the_console_of_mmengine(run, trained, tmp_path):
    _, work_dir = trained
    outcome = run('test.py', 'det.py', work_dir / 'epoch_2.pth', '--verbose', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert 'System environment' in outcome.output and 'Epoch(test) [5/5]' in outcome.output
    assert 'testing ' not in outcome.output.splitlines()[0]


def test_processes_speak_once(run, trained, tmp_path):
    _, work_dir = trained
    outcome = run('dist_test.sh', 'det.py', work_dir / 'epoch_2.pth', 2, '--work-dir', 'two', '--show-dir', 'show',
                  cwd=tmp_path)  # fmt: skip
    assert outcome.status == 0, outcome.errors
    lines = outcome.output.splitlines()
    assert len(lines) < LINES and not outcome.errors
    # The log file is named at the beginning and at the end.
    assert {line.split()[0] for line in lines if lines.count(line) > 1} == {'log'}
    assert 'CPU, 2 processes' in outcome.output and re.search('pictures +show$', outcome.output, re.MULTILINE)
