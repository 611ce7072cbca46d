"""What passes from loggers, prints and warnings to the console, and that the rest is in the log file."""

import sys
import warnings

import pytest
from mmengine.logging import MMLogger

from mmatconv.engine.console.console import OURS, Console
from mmatconv.engine.console.metrics import headline, table


@pytest.fixture(autouse=True)
def every_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        yield


def print_as(module, text):
    """Prints as the code of another module does."""
    exec(f'print({text!r})', {'__name__': module})


def log_as(logger, file, level, text):
    """Logs as the code of another file does."""
    exec(compile(f'logger.{level}({text!r})', file, 'exec'), {'logger': logger})


def everything_is_said(console, folder, name):
    """Things said before and after there is a log file, by this package and by others; returns the log."""
    elsewhere = f'{folder}/site-packages/mmengine/x.py'
    print_as('mmdet.datasets', 'Could not import OneDL')
    warnings.warn('deprecated: use y', FutureWarning, stacklevel=1)
    logger = MMLogger.get_instance(f'console {name}', log_file=str(folder / f'{name}.log'))
    console.attach(logger)
    for level in ('info', 'warning'):
        log_as(logger, elsewhere, level, f'paramwise_options, deprecated, {level}')
        log_as(logger, OURS + 'x.py', level, f'ours, not installed, {level}')
    log_as(logger, elsewhere, 'warning', 'missing keys in source state_dict')
    print_as('pycocotools.coco', 'creating index...')
    print('from the user')
    warnings.warn('the driver is too old', UserWarning, stacklevel=1)
    console.say('training')
    return (folder / f'{name}.log').read_text()


def test_what_a_user_can_act_on_is_shown_and_all_is_logged(tmp_path, capsys):
    streams = sys.stdout, sys.stderr, warnings.showwarning
    with Console() as console:
        log = everything_is_said(console, tmp_path, 'first')
    assert (sys.stdout, sys.stderr, warnings.showwarning) == streams
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        'ours, not installed, info',
        'warning: ours, not installed, warning',
        'warning: missing keys in source state_dict',
        'from the user',
        'training',
    ]
    assert shown.err == 'warning: the driver is too old\n'
    for text in ('OneDL', 'use y', 'paramwise_options, deprecated, info', 'paramwise_options, deprecated, warning',
                 'ours, not installed, warning', 'creating index', 'driver'):  # fmt: skip
        assert log.count(text) == 1, text


def test_only_the_first_process_speaks(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with Console() as console:
        everything_is_said(console, tmp_path, 'second')
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ('from the user\n', '')


def test_verbose_changes_nothing(tmp_path, capsys):
    with Console(verbose=True) as console, pytest.warns(FutureWarning, match='use y'):
        log = everything_is_said(console, tmp_path, 'verbose')
    shown = capsys.readouterr().out
    assert 'Could not import OneDL' in shown and 'paramwise_options' in shown and 'training' not in shown
    assert 'OneDL' not in log


def test_a_terminal_has_one_line_of_progress_and_a_log_one_now_and_then(monkeypatch, capsys):
    for terminal, expected in ((False, 'iteration 1\niteration 3\ndone\n'),
                               (True, '\riteration 1\x1b[K\riteration 3\x1b[K\ndone\n')):  # fmt: skip
        monkeypatch.setattr(sys.stdout, 'isatty', lambda terminal=terminal: terminal, raising=False)
        with Console() as console:
            for number in (1, 2, 3):
                console.progress(f'iteration {number}', due=True, last=number == 3)
            console.say('done')
        assert capsys.readouterr().out == expected


def test_scores_are_printed_as_in_papers():
    coco = {'coco/bbox_mAP': 0.7024, 'coco/bbox_mAP_s': -1.0, 'coco/segm_mAP': 0.65, 'time': 1.0, 'other/f1': 0.123456}
    assert [line.split() for line in table(coco, 'scores').splitlines()] == [
        ['scores', 'AP', 'APs'], ['box', '70.2', '-'], ['mask', '65.0'], ['other/f1', '0.1235'],
    ]  # fmt: skip
    assert headline(coco) == 'box AP 70.2'
    assert [line.split() for line in table({'mIoU': 73.8, 'aAcc': 91.25}, 'x').splitlines()] == [
        ['x', 'mIoU', 'aAcc'],
        ['73.8', '91.2'],
    ]
    assert headline({'accuracy/top1': 81.0}) == 'top-1 81.0' and headline({'loss': 1.0}) == ''
