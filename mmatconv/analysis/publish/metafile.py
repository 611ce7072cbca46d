"""The entry of a model in the metafile beside its config, from 'not trained yet' to results and weights."""

import re
from collections.abc import Mapping

from mmatconv.engine.console.metrics import METRICS, number
from mmatconv.errors import UserError

UNTRAINED = '    Status: not trained yet\n'
_TASKS = {'box': 'Object Detection', 'mask': 'Instance Segmentation'}


def with_weights(text: str, model: str, data: str, scores: Mapping[str, float], address: str, command: str) -> str:
    """The text of a metafile with results and weights of a model in the place of its 'not trained yet'.

    Args:
        text: The metafile; comments and order stay.
        model: The model's name.
        data: Name of the data set.
        scores: On its test split, by logged name.
        address: Of the weights.
        command: That measured the scores.

    Raises:
        UserError: The metafile does not list the model as one that is not trained yet.
    """
    entry = re.search(rf'^  - Name: {re.escape(model)}\n(?:(?!  - Name:).*\n?)*', text, re.MULTILINE)
    if entry is None or UNTRAINED not in entry[0]:
        raise UserError(f"the metafile beside the config must list '{model}' with 'Status: not trained yet'.")
    tasks: dict[str, list[str]] = {}
    for name, label in METRICS.items():
        if name in scores:
            task = _TASKS.get(label.partition(' ')[0], 'Semantic Segmentation')
            tasks.setdefault(task, []).append(f'{label}: {number(name, scores[name])}')
    lines = ['    Results:']
    for task, metrics in tasks.items():
        metrics = ', '.join(metrics)
        lines += [f'      - Task: {task}', f'        Dataset: {data}', f'        Metrics: {{{metrics}}}']
    lines += [f'    Weights: {address}', f'    Measured By: {command}']
    trained = entry[0].replace(UNTRAINED, '\n'.join(lines) + '\n')
    return text[: entry.start()] + trained + text[entry.end() :]
