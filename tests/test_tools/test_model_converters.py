"""The converters as a user runs them, and released checkpoints given to train.py and test.py as they are."""

import ast
import pickle
import re
from pathlib import Path

import pytest
import torch

from mmatconv import AttNet
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.engine.cli import report
from mmatconv.engine.cli.convert import convert
from mmatconv.engine.cli.convert import publish as publish_model

CONFIGS = Path(__file__).parent / 'configs'
# What configs/cls.py builds.
ARCH = dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2)
LOGGED = 'has the released names; read as a classifier'


def publish(doc, argv):
    return publish_model(doc, None, argv)


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A released checkpoint of the classifier in configs/cls.py."""
    torch.manual_seed(3)
    state = AttNet(ARCH, gap_before_final_norm=True, init='live').state_dict()
    path = tmp_path_factory.mktemp('released') / 'released.pth'
    torch.save({'model': {**state, 'head.weight': torch.randn(2, 32), 'head.bias': torch.zeros(2)}}, path)
    return path


@pytest.fixture
def config(tmp_path):
    """Writes a config with extra lines that inherits from configs/cls.py."""

    def write(extra):
        path = tmp_path / 'mine.py'
        path.write_text(f"_base_ = '{CONFIGS / 'cls.py'}'\n{extra}\n")
        return str(path)

    return write


@pytest.fixture
def converter(monkeypatch, capfd, tmp_path):
    """Calls a converter in this process; returns its status, its output, and its sentence."""
    monkeypatch.setattr(report, '_catch_signals', lambda: None)
    monkeypatch.chdir(tmp_path)

    def call(main, *arguments):
        status = main('About it.', [str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert 'Traceback' not in captured.err + captured.out
        return status, captured.out, captured.err.removeprefix('error: ').strip()

    return call


def cell(output, label):
    """The cells before and after of a table's row."""
    (row,) = [line for line in output.splitlines() if re.match(rf'│ {re.escape(label)} +│', line)]
    return [part.strip() for part in row.split('│')[2:4]]


def test_there_and_back(run, converter, released, tmp_path):
    there = ('model_converters/convert_names.py', str(released), 'there.safetensors', '--to', 'mmpretrain')
    outcome = run(*there, cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    names = len(read_checkpoint(released)['model'])
    assert cell(outcome.output, f'renamed: {names - 2}') == ['*', 'backbone.*']
    assert cell(outcome.output, 'renamed: 2') == ['head.*', 'head.fc.*']
    assert cell(outcome.output, 'tensors') == [str(names), str(names)]
    assert '(inferred from the shapes)' in outcome.output
    status, output, errors = converter(convert, 'there.safetensors', 'back.pth', '--to', 'released')
    assert (status, errors) == (0, '')
    assert cell(output, 'renamed: 2') == ['head.fc.*', 'head.*']
    states = [read_checkpoint(path)['model'] for path in (released, tmp_path / 'back.pth')]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_refusals_are_one_sentence(converter, released, tmp_path):
    to = ('--to', 'mmpretrain')
    (tmp_path / 'mine.pth').write_text('mine')
    exists = "'mine.pth' exists already; delete it or choose another name."
    assert converter(convert, released, 'mine.pth', *to) == (1, '', exists)
    assert (tmp_path / 'mine.pth').read_text() == 'mine'
    status, _, sentence = converter(convert, released, 'a.pth', *to, '--arch', 'S')
    first = 'downsample_layers.0.0.0.weight is (4, 3, 3, 3) in the file and (20, 3, 3, 3) in AttNet-S'
    assert (status, first in sentence) == (1, True)
    status, _, sentence = converter(publish, released, 'a')
    assert (status, "has no entry 'state_dict'" in sentence) == (1, True)
    status, _, sentence = converter(convert, released, 'mine.pth/a.pth', *to)
    assert (status, "folder 'mine.pth' cannot be made (File exists)" in sentence) == (1, True)
    status, _, sentence = converter(convert, released, 'a.pth')
    assert (status, 'required: --to' in sentence, sentence.endswith('see convert_names.py --help')) == (1, True, True)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.pth']


def score(outcome):
    assert outcome.status == 0, outcome.errors
    return re.findall(r'top-1\n +([\d.]+)', outcome.output)


def test_released_checkpoint_is_evaluated_as_it_is(run, released, tmp_path):
    outcome = run('test.py', 'cls.py', released, '--out', 'scores.pkl', cwd=tmp_path)
    assert score(outcome) and LOGGED in outcome.output
    assert '0 missing, 0 unused' in outcome.output
    found = [sample['pred_score'] for sample in pickle.loads((tmp_path / 'scores.pkl').read_bytes())]

    state = read_checkpoint(released)['model']
    backbone = AttNet(ARCH, gap_before_final_norm=True).eval()
    backbone.load_state_dict({name: value for name, value in state.items() if not name.startswith('head.')})
    for shade, indices in ((60, (0, 1)), (190, (2, 3))):
        image = torch.full((1, 3, 64, 64), (shade - 127.0) / 58.0)
        with torch.no_grad():
            logits = torch.nn.functional.linear(backbone(image)[0], state['head.weight'], state['head.bias'])
        for index in indices:
            assert torch.allclose(found[index], logits.softmax(1)[0], atol=1e-5)
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def test_training_starts_from_a_released_checkpoint(run, released, tmp_path, config):
    """An epoch with a learning rate of zero leaves the released weights."""
    path = config(f'load_from = {str(released)!r}')
    still = ('--cfg-options', 'optim_wrapper.optimizer.lr=0')
    outcome = run('train.py', path, '--work-dir', 'work', *still, cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert LOGGED in outcome.output
    trained = read_checkpoint(tmp_path / 'work' / 'epoch_1.pth')['state_dict']
    state = read_checkpoint(released)['model']
    assert torch.equal(trained['head.fc.weight'], state['head.weight'])
    assert torch.equal(trained['backbone.stages.3.0.norm_1.bias'], state['stages.3.0.norm_1.bias'])
    assert torch.equal(trained['backbone.norm.weight'], state['norm.weight'])


def test_released_checkpoint_of_another_size(run, released, tmp_path, config):
    first = 'backbone.downsample_layers.1.0.weight'
    wider = 'model = dict(backbone=dict(arch=dict(depths=[1, 1, 1, 1], dims=[8, 20, 24, 32], exp_rates=2)))\n'
    sentence = run('test.py', config(wider), released, cwd=tmp_path).sentence
    assert f"checkpoint '{released}' is of another model" in sentence
    assert f"'{first}' is (16, 8, 3, 3) in the file and (20, 8, 3, 3) in the model" in sentence
    # MMEngine alone would load the few tensors that fit, such as kernel_gen, and train.
    outcome = run('train.py', config(wider + f'load_from = {str(released)!r}'), '--work-dir', 'work', cwd=tmp_path)
    assert outcome.status == 1
    assert f'{first} is (16, 8, 3, 3) there and (20, 8, 3, 3) in this AttNet' in outcome.sentence
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_publishing_a_training_with_averaged_weights(run, converter, tmp_path, config):
    outcome = run('train.py', config("custom_hooks = [dict(type='EMAHook', momentum=0.3)]"), cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    source = tmp_path / 'work_dirs' / 'mine' / 'epoch_1.pth'
    status, output, errors = converter(publish, source, 'out/small')
    assert (status, errors) == (0, '')
    training = read_checkpoint(source)
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert [bool(re.fullmatch(r'small-[0-9a-f]{8}\.(pth|safetensors)', name)) for name in names] == [True, True]
    for name in names:
        published = read_checkpoint(tmp_path / 'out' / name)
        assert set(published) == {'state_dict', 'meta'}
        assert published['state_dict'].keys() == training['state_dict'].keys()
        for key, value in published['state_dict'].items():
            assert torch.equal(value, training['state_dict'][key])
    key = 'head.fc.weight'
    assert not torch.equal(training['ema_state_dict'][f'module.{key}'], published['state_dict'][key])
    dropped = re.findall(r'│ dropped +│ (\w+)', output)
    assert {'optimizer', 'message_hub', 'ema_state_dict', 'meta'} <= set(dropped)


def test_help_shows_an_example_that_names_the_tool():
    for path in Path('tools/model_converters').glob('*.py'):
        assert f'python {path} ' in ast.get_docstring(ast.parse(path.read_text()))
