"""The project's own weights are what their cards say, are found by name, and reach the figures on their cards."""

import ast
import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.hub import get_model

from mmatconv.analysis.run_report import read_evaluation
from mmatconv.analysis.study.protocol import fingerprint
from mmatconv.checkpoint.published import find_published
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.engine.console.metrics import METRICS, percent

from ..reading import read_config

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / 'weights'
METAFILES = [ROOT / name for name in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']]
MODELS = {
    model['Name']: model
    for metafile in METAFILES
    for model in yaml.safe_load(metafile.read_text())['Models']
    if 'Weights' in model
}
# Of one file, and of all: they come with every installation.
MOST_BYTES, MOST_BYTES_IN_ALL = 5e6, 15e6


def card(name):
    return (WEIGHTS / f'{name}.md').read_text()


def scores(name, images):
    """A row of the table of scores on a card, by metric; empty cells are left out."""
    head, row = (re.search(rf'^\| \[?{start}.*', card(name), re.M)[0] for start in ('images', re.escape(images)))
    cells = [[cell.strip() for cell in line.split('|')[2:-1]] for line in (head, row)]
    return {metric: float(value) for metric, value in zip(*cells) if value}


def test_the_folder_holds_the_files_of_the_models_in_the_metafiles():
    assert MODELS
    expected = {'README.md'}
    for name, model in MODELS.items():
        expected |= {model['Weights'].removeprefix('mmatconv://'), f'{name}.log', f'{name}.md'}
    assert {path.name for path in WEIGHTS.iterdir()} == expected
    sizes = [path.stat().st_size for path in WEIGHTS.iterdir()]
    assert max(sizes) < MOST_BYTES and sum(sizes) < MOST_BYTES_IN_ALL


@pytest.mark.parametrize('name', MODELS)
def test_card_metafile_and_list_say_the_same(name):
    model, text = MODELS[name], card(name)
    listed = {key: value for result in model['Results'] for key, value in result['Metrics'].items()}
    assert listed and scores(name, 'test split') == listed
    (row,) = [line for line in (ROOT / 'configs' / 'README.md').read_text().splitlines() if f'[{name}]' in line]
    assert f'{next(iter(listed.values()))} {next(iter(listed))}' in row and f'(../weights/{name}.md)' in row
    file = find_published(model['Weights'])
    assert file.samefile(WEIGHTS / file.name) and model['Measured By'] in text
    assert hashlib.sha256(file.read_bytes()).hexdigest() in text
    assert ast.get_docstring(ast.parse((ROOT / model['Config']).read_text())) in text
    # What the run was made with is what the config says today.
    assert f'fingerprint `{fingerprint(read_config(ROOT / model["Config"]))}`' in text
    log = [json.loads(line) for line in (WEIGHTS / f'{name}.log').read_text().splitlines()]
    assert max(line.get('iter', 0) for line in log) == model['Metadata']['Iterations']
    logged = {label: percent(metric, log[-1][metric]) for metric, label in METRICS.items() if metric in log[-1]}
    validation = scores(name, 'validation split')
    assert validation and validation == pytest.approx({label: logged[label] for label in validation}, abs=0.051)


@pytest.mark.parametrize('name', MODELS)
def test_links_of_a_card_lead_somewhere(name):
    for target in re.findall(r'\]\(([^)\s]+)\)', card(name)):
        assert (WEIGHTS / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS)
def test_its_command_gives_the_figure_on_its_card(run, name, tmp_path):
    (command,) = re.findall(r'^python tools/(test.py .*) \\\n +(--cfg-options .*)$', card(name), re.M)
    outcome = run(*shlex.split(' '.join(command)), '--work-dir', tmp_path, cwd=ROOT)
    assert outcome.status == 0, outcome.errors
    found = {METRICS[metric]: percent(metric, value) for metric, value in read_evaluation(tmp_path).items()}
    expected = scores(name, 'tests/data')
    assert expected.keys() <= found.keys()
    # Rounded to a tenth on the card; another CPU sums in another order, and a few pixels lie between two classes. A
    # detection at one of AP's ten thresholds of overlap counts for more.
    tolerance = 0.5 if 'mask AP' in expected else 0.2
    assert {metric: found[metric] for metric in expected} == pytest.approx(expected, abs=tolerance)


def test_the_hub_of_mmengine_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = MODELS[next(iter(MODELS))]
    built = get_model(f'mmatconv::{model["Config"].removeprefix("configs/")}', pretrained=True).state_dict()
    state = read_checkpoint(model['Weights'])['state_dict']
    assert state.keys() == built.keys() and all(torch.equal(built[key], state[key]) for key in state)


def test_the_demo_finds_them_by_name(run, tmp_path):
    name = next(iter(MODELS))
    image = next((ROOT / 'tests' / 'data' / 'camvid' / 'images' / 'test').iterdir())
    outcome = run('image_demo.py', str(image), name, cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    predictions = json.loads((tmp_path / 'demo_results' / 'predictions.json').read_text())
    assert predictions['checkpoint'] == MODELS[name]['Weights']
    assert sum(predictions['images'][0]['pixels'].values()) == 192 * 144
