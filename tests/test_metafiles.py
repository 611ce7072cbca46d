"""Metafiles and model index: complete, true to the configs, and never the paper's figures as ours."""

import ast
import functools
import re
from pathlib import Path

import modelindex
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmatconv.analysis.complexity.config_complexity import count_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS_OF = {file: yaml.safe_load((ROOT / file).read_text())['Models'] for file in INDEX}
ENTRIES = {model['Config']: model for models in MODELS_OF.values() for model in models}


@pytest.fixture(scope='module', autouse=True)
def read_metafiles_once():
    """MMEngine reads all of mmdet's or mmseg's metafiles again for each of their configs that one inherits from."""
    from mmengine.config import utils

    original = utils.load
    utils.load = functools.cache(original)
    yield
    utils.load = original


@functools.cache
def packages():
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        __import__(f'{name}.utils', fromlist=['']).register_all_modules(init_default_scope=False)


def parameters(config):
    """How many the model has, built without memory for them where its code allows it."""
    packages()
    config.model.backbone.init_cfg = None
    # mmdet's PVT computes with tensors while it is built.
    device = 'cpu' if 'PyramidVision' in config.model.backbone.type else 'meta'
    with torch.device(device), DefaultScope.overwrite_default_scope(config.default_scope):
        return sum(p.numel() for p in MODELS.build(config.model).parameters())


def paper_metrics(model):
    return {
        (result['Task'], name): value
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
        assert collection.paper['URL'] == 'https://arxiv.org/abs/2510.20092'
        assert (ROOT / collection.code['URL']).exists() and collection.code['Version']


@pytest.mark.parametrize('path', CONFIGS)
def test_metadata_is_what_the_config_builds(path):
    model, config = ENTRIES[path], Config.fromfile(path)
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
    _, _, count = count_config(Config.fromfile(path), size, in_paper_order=True)
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
        assert not {(result['Task'], name) for name in result['Metrics']} & set(paper_metrics(model))
    for result in model.get('Paper Results', []):
        assert re.fullmatch(r'(II|III|IV|V|VI|IX \([abc]\))', result['Table'])
        assert set(result) == {'Table', 'Task', 'Dataset', 'Metrics'}


@pytest.mark.parametrize('path', CONFIGS)
def test_the_table_a_config_names_is_where_its_figures_come_from(path):
    named = re.findall(r'(?:table|of) (II|III|IV|V|VI|IX)\b', ast.get_docstring(ast.parse(Path(path).read_text())))
    tables = {result['Table'].split()[0] for result in ENTRIES[path].get('Paper Results', [])}
    assert tables <= set(named)
    if not tables:
        # What is no row of a table: the pure drop-in, and PVT's attention without PVT's position embedding.
        assert not named or 'linear-merging' in path or '_sra_' in path


def test_the_paper_is_quoted_as_printed():
    expected = {
        'attnet-t4_32xb128_in1k': {('Image Classification', 'Top 1 Accuracy'): 85.6},
        'atconv-swin-b_128xb32_in1k-384px': {('Image Classification', 'Top 1 Accuracy'): 85.0},
        'attnet-t2_rank-aug_32xb128_in1k': {('Image Classification', 'Top 1 Accuracy'): 83.67},
        'fpn_atconv-pvt-s_8xb4-40k_ade20k-512x512': {
            ('Semantic Segmentation', 'mIoU'): 45.81,
            ('Semantic Segmentation', 'mAcc'): 56.6,
        },
        'mask-rcnn_attnet-t3_fpn_ms-crop-3x_coco': {
            ('Object Detection', 'box AP'): 50.7,
            ('Object Detection', 'box AP50'): 72.2,
            ('Object Detection', 'box AP75'): 55.5,
            ('Instance Segmentation', 'mask AP'): 45.4,
            ('Instance Segmentation', 'mask AP50'): 69.4,
            ('Instance Segmentation', 'mask AP75'): 49.2,
        },
    }
    found = {model['Name']: paper_metrics(model) for model in ENTRIES.values() if model['Name'] in expected}
    assert found == expected
    assert sum(bool(paper_metrics(model)) for model in ENTRIES.values()) == 52
