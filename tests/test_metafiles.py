"""Metafiles and model index: complete, true to the configs, and never the paper's figures as ours."""

import ast
import functools
import re
from pathlib import Path

import modelindex
import pytest
import torch
import yaml
from mmengine.registry import MODELS, DefaultScope

from mmatconv.analysis.complexity.config_complexity import count_config

from .reading import read_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS_OF = {file: yaml.safe_load((ROOT / file).read_text())['Models'] for file in INDEX}
ENTRIES = {model['Config']: model for models in MODELS_OF.values() for model in models}


@functools.cache
def packages():
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        __import__(f'{name}.utils', fromlist=['']).register_all_modules(init_default_scope=False)


counts = {}


def parameters(config):
    """How many the model has, built without memory for them where its code allows it, equal models once."""
    config.model.backbone.pop('init_cfg', None)
    key = repr(config.model)
    if key not in counts:
        packages()
        # mmdet's PVT computes with tensors while it is built.
        device = 'cpu' if 'PyramidVision' in config.model.backbone.type else 'meta'
        with torch.device(device), DefaultScope.overwrite_default_scope(config.default_scope):
            counts[key] = sum(p.numel() for p in MODELS.build(config.model).parameters())
    return counts[key]


def quotations(model):
    """{(table, row, metric): value} of what a metafile quotes from the paper."""
    return {
        (result['Table'], result['Row'], name): value
        for result in model.get('Paper Results', [])
        for name, value in result['Metrics'].items()
    }


def test_every_config_is_listed_once_and_exists():
    listed = [model['Config'] for models in MODELS_OF.values() for model in models]
    assert sorted(listed) == CONFIGS


def test_every_metafile_is_imported_once():
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('metafile.yml'))
    assert INDEX == files
    for file, models in MODELS_OF.items():
        assert all(model['Config'].startswith(f'{Path(file).parent}/') for model in models)


def test_modelindex_reads_the_files_and_has_no_complaint():
    index = modelindex.load('model-index.yml')
    assert not index.check(silent=True)
    assert {model.name for model in index.models} == {Path(path).stem for path in CONFIGS}
    for collection in index.collections:
        paper = {'ACmix': '2111.14556', 'InLine': '2412.06590', 'LKCA': '2401.05738'}.get(collection.name, '2510.20092')
        assert collection.paper['URL'] == f'https://arxiv.org/abs/{paper}'
        assert (ROOT / collection.code['URL']).exists() and collection.code['Version']


@pytest.mark.parametrize('path', CONFIGS)
def test_metadata_is_what_the_config_builds(path):
    model, config = ENTRIES[path], read_config(path)
    assert model['Name'] == Path(path).stem
    metadata = model['Metadata']
    assert metadata['Parameters'] == parameters(config)
    length = {**metadata, 'Epochs': metadata.get('Epochs', 300)} if 'imagenet' in path else metadata
    for key, setting in (('Epochs', 'max_epochs'), ('Iterations', 'max_iters')):
        assert length.get(key) == config.train_cfg.get(setting)


@pytest.mark.parametrize(
    'name', ['attnet-xxs', 'atconv-pvt-t', 'atconv-swin-t', 'ablations/attnet-t2_hydra', 'ablations/atconv-pvt-t_sra']
)
def test_flops_are_counted_as_the_paper_does(name):
    path = f'configs/imagenet/{name}_32xb128_in1k.py'
    metadata = ENTRIES[path]['Metadata']
    size = (metadata['Input Size'],) * 2
    _, _, count = count_config(read_config(path), size, in_paper_order=True)
    assert round(count.flops / 1e9, 2) == metadata['FLOPs (G)']


@pytest.mark.parametrize('path', CONFIGS)
def test_results_are_ours_and_the_papers_are_marked_as_such(path):
    model = ENTRIES[path]
    trained = 'Results' in model
    # A result of ours comes with the command that made it.
    assert trained == ('Measured By' in model)
    assert trained != (model.get('Status') == 'not trained yet')
    for result in model.get('Results', []):
        assert set(result) == {'Task', 'Dataset', 'Metrics'}
        assert not set(result['Metrics']) & {name for _, _, name in quotations(model)}
    for result in model.get('Paper Results', []):
        assert set(result) == {'Table', 'Row', 'Task', 'Dataset', 'Metrics'}


@pytest.mark.parametrize('path', CONFIGS)
def test_the_table_a_config_names_is_where_its_figures_come_from(path):
    named = re.findall(
        r'(?:tables?|of|and) (II|III|IV|V|VI|VII|IX)\b', ast.get_docstring(ast.parse(Path(path).read_text()))
    )
    tables = {result['Table'].split()[0] for result in ENTRIES[path].get('Paper Results', [])}
    assert tables <= set(named)
    if not tables:
        # What is no row of a table: the pure drop-in, and PVT's attention without PVT's position embedding.
        assert not named or 'linear-merging' in path or '_sra_' in path


def test_the_paper_is_quoted_as_printed_and_in_full():
    """Every quotation is a figure of the paper; every row is quoted whole, or reproduction.md says why not."""
    printed, columns = {}, {}
    for table, content in yaml.safe_load((ROOT / 'tests/data/paper_results.yml').read_text()).items():
        columns[table] = content['columns']
        for row, values in content['rows'].items():
            assert len(values) == len(content['columns'])
            printed |= {(table, row, name): value for name, value in zip(content['columns'], values)}
    quoted = {}
    for model in ENTRIES.values():
        for key, value in quotations(model).items():
            assert key not in quoted, f'{key} is quoted twice'
            quoted[key] = None if value == 'training collapsed' else value
    assert quoted == {key: printed[key] for key in quoted}

    rows = {(table, row) for table, row, _ in quoted}
    assert set(quoted) == {(table, row, name) for table, row in rows for name in columns[table]}
    page = (ROOT / 'docs/reproduction.md').read_text()
    left_out = page.split('## Rows that are left out')[1].split('\n## ')[0]
    for table, row in sorted({key[:2] for key in printed} - rows):
        line = next(line for line in left_out.splitlines() if line.startswith(f'| {table} |'))
        assert row.partition(', ')[0] in line.split('|')[2].replace(',', ' ').split(), f'{row} of table {table}'
