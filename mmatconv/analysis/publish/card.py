"""The model card: what a published model is, what it was trained on and how, its scores, its limits."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmatconv.analysis.publish.data_sets import DATA_SETS, SAMPLES, folder_name
from mmatconv.engine.console.metrics import METRICS, number


@dataclass(frozen=True)
class Published:
    """What a card says of one model.

    Attributes:
        config: Its config in the project, by its path there.
        entry: Of the metafile, before it was trained.
        weights: File name.
        size: Of that file in bytes.
        sha256: Of that file.
        fingerprint: Of the config, see :func:`~mmatconv.analysis.study.protocol.fingerprint`.
        scores: By what was evaluated ('test', 'validation', 'sample'), then by logged name.
        seeds: Scores of all runs that differ from this one in the seed alone, itself too, by the seed, as in `scores`.
        test_command: Evaluates on the test split.
        sample_command: Evaluates on the sample.
    """

    config: Config
    entry: Mapping[str, Any]
    weights: str
    size: int
    sha256: str
    fingerprint: str
    scores: Mapping[str, Mapping[str, float]]
    seeds: Mapping[int, Mapping[str, Mapping[str, float]]]
    test_command: str
    sample_command: str


def render(model: Published) -> str:
    """The card as Markdown."""
    config, folder = model.config, folder_name(model.config)
    data, name = DATA_SETS[folder], Path(config.filename).stem
    loop, optimizer = config.train_cfg, config.optim_wrapper.optimizer
    length = f'{loop.max_iters} iterations' if 'max_iters' in loop else f'{loop.max_epochs} epochs'
    facts = {
        'config': f'[{model.entry["Config"]}](../{model.entry["Config"]}), fingerprint `{model.fingerprint}`',
        'architecture': ', '.join(model.entry['Metadata']['Architecture']),
        'parameters': f'{model.entry["Metadata"]["Parameters"]:,}',
        'weights': f'[{model.weights}]({model.weights}), {model.size / 1e6:.1f} MB',
        'sha256': f'`{model.sha256}`',
        'training log': f'[{name}.log]({name}.log), the lines of MMEngine',
    }
    sample = (SAMPLES / folder).as_posix()
    images = {
        'test': 'test split',
        'validation': 'validation split',
        'sample': f'[{sample}](../{sample}/README.md), a few of the test split',
    }
    labels = [metric for metric in METRICS if metric in model.scores['test']]
    parts = [
        f'# {name}',
        ast.get_docstring(ast.parse(Path(config.filename).read_text(encoding='utf-8'))) or '',
        _table(('', ''), facts.items()),
        '## Scores',
        _table(
            ('images', *(METRICS[metric] for metric in labels)),
            [(images[kind], *_row(model.scores[kind], labels)) for kind in images],
        ),
        'In the folder of the project, with the data as docs/own_data.md converts them; the second command needs none:',
        f'```bash\n{model.test_command}\n{model.sample_command}\n```',
        # The protocol's first metric, which chooses.
        _seeds(model, next(iter(model.scores['validation']))),
        '## Use',
        f'```bash\npython tools/image_demo.py IMAGES {name}\n```',
        'In Python, with mmatconv installed:',
        '```python\nimport mmatconv\nfrom mmengine.hub import get_model\n\n'
        f"model = get_model('mmatconv::{model.entry['Config'].partition('/')[2]}', pretrained=True)\n```",
        '## Training',
        f'From scratch on the training split: {length} of {config.train_dataloader.batch_size} images, '
        f'{optimizer.type} with a peak learning rate of {optimizer.lr:g}, seed {config.randomness.seed}. The last '
        'weights are the published ones.',
        f'```bash\npython tools/train.py {model.entry["Config"]}\n```',
        '## Data and licence',
        f'{data.name}. {data.about}',
        f'Licence of the data: {data.licence}',
        '## Limits',
        f'A small model after a short training on {data.name} alone, made to compare backbones at equal training and '
        'to try the tools with. It knows images like those it was trained on, at their scale, and nothing else. Do not '
        'rely on it where a mistake harms anyone: not in traffic, not in diagnosis. It says nothing about large models '
        'or models pretrained on ImageNet.',
    ]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _seeds(model: Published, metric: str) -> str:
    if len(model.seeds) < 2:
        return ''
    rows = [
        (str(seed), *(number(metric, scores[kind][metric]) for kind in ('validation', 'test')))
        for seed, scores in sorted(model.seeds.items())
    ]
    label = METRICS[metric]
    chosen = (
        f'Of {len(rows)} runs that differ in the seed alone, this is seed {model.config.randomness.seed}, chosen by '
    )
    return f'{chosen}the validation split:\n\n' + _table(('seed', f'{label}, validation', f'{label}, test'), rows)


def _row(scores: Mapping[str, float], labels: list[str]) -> list[str]:
    return [number(metric, scores[metric]) if metric in scores else '' for metric in labels]


def _table(head, rows) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
