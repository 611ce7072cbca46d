"""Publishes the model of a run of a study under the name of a config: tools/model_converters/publish_model.py."""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmatconv.analysis.model_zoo import CARDS, render_pages
from mmatconv.analysis.publish.card import Published, render
from mmatconv.analysis.publish.data_sets import DATA_SETS, folder_name, sample_options
from mmatconv.analysis.publish.metafile import with_weights
from mmatconv.analysis.run_report import read_evaluation
from mmatconv.analysis.study.execute import checkpoint_of
from mmatconv.analysis.study.protocol import fingerprint
from mmatconv.analysis.study.results import RESULT, read_json
from mmatconv.checkpoint.published import SCHEME
from mmatconv.deploy.conversion import Conversion, save_published
from mmatconv.deploy.publishing import publishable
from mmatconv.engine.cli.config_file import load_config
from mmatconv.engine.cli.published import METAFILE
from mmatconv.errors import UserError

_SEED = re.compile(r'_seed(\d+)$')


def publish_run(run: Path, target: str) -> tuple[Conversion, list[Path]]:
    """Write weights, log and card of a run to ``weights/``, its scores to the metafile and to configs/README.md.

    The weights are evaluated on the project's few images of the test split, which the card has beside the scores of
    the run.

    Args:
        run: Folder of a run of a study, evaluated on the test split.
        target: The config in the project that the model is published with; the run must have been made with it.

    Returns:
        What became of the checkpoint, and the files written to ``weights/``.

    Raises:
        UserError: The run is not complete or was made with another config, the metafile does not list the config as
            not trained yet, or files of its name are in ``weights/``.
    """
    config = load_config(target)
    path = Path(config.filename).resolve()
    root = next((folder for folder in path.parents if (folder / 'model-index.yml').is_file()), None)
    if root is None:
        raise UserError(f"config '{target}' does not lie in a checkout of mmatconv; models are published in one.")
    name, folder = path.stem, root / CARDS
    for pattern in (f'{name}-????????.safetensors', f'{name}.log', f'{name}.md'):
        for existing in folder.glob(pattern):
            raise UserError(f"'{existing}' exists already; delete the files of {name} to publish another run.")
    result = read_json(run / RESULT)
    if not result['test']:
        raise UserError(f"'{run / RESULT}' has no scores on the test split; evaluate the run there first.")
    if fingerprint(config) != result['fingerprint']:
        raise UserError(f"the run '{run}' was made with another config than '{target}'; compare its config.py.")
    checkpoint = checkpoint_of(run)
    if checkpoint is None:
        raise UserError(f"the run '{run}' has left no weights here; publish it where it was made.")
    data = DATA_SETS[folder_name(config)].name
    place = path.relative_to(root).as_posix()
    metafile = path.with_name(METAFILE)
    entry = _entry(metafile, name)

    conversion = publishable(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        (weights,) = save_published(conversion, Path(scratch) / name, ['.safetensors'])
        test = f'python tools/test.py {place} {CARDS}/{weights.name}'
        listed = with_weights(metafile.read_text('utf-8'), name, data, result['test'], f'{SCHEME}{weights.name}', test)
        sample = [f'{key}={value}' for key, value in sample_options(config).items()]
        sample_scores = _evaluate(root, [place, str(weights), '--cfg-options', *sample], Path(scratch) / 'sample')
        content = weights.read_bytes()
    card = render(
        Published(
            config=config,
            entry=entry,
            weights=weights.name,
            size=len(content),
            fingerprint=result['fingerprint'],
            sha256=hashlib.sha256(content).hexdigest(),
            scores=dict(test=result['test'], validation=result['validation'], sample=sample_scores),
            seeds=dict(_seeds(run)),
            test_command=test,
            sample_command=f'{test} \\\n    --cfg-options {" ".join(sample)}',
        )
    )
    log = b''.join(file.read_bytes() for file in sorted(run.glob('*/vis_data/scalars.json')))
    files = {folder / weights.name: content, folder / f'{name}.log': log, folder / f'{name}.md': card.encode()}
    for file, written in files.items():
        file.write_bytes(written)
    metafile.write_text(listed, encoding='utf-8')
    for page, text in render_pages(root).items():
        page.write_text(text)
    return conversion, list(files)


def _seeds(run: Path) -> Iterator[tuple[int, Mapping[str, Mapping[str, float]]]]:
    """The results of the runs that differ from one in the seed alone, itself too."""
    name = run.resolve().name
    for other in run.resolve().parent.glob(_SEED.sub('_seed*', name)):
        seed = _SEED.search(other.name)
        if seed and (other / RESULT).is_file() and (result := read_json(other / RESULT))['test']:
            yield int(seed[1]), result


def _entry(metafile: Path, name: str) -> Mapping[str, Any]:
    models = yaml.safe_load(metafile.read_text(encoding='utf-8'))['Models'] if metafile.is_file() else []
    for model in models:
        if model['Name'] == name:
            return model
    raise UserError(f"'{metafile}' does not list '{name}'; add it with 'Status: not trained yet'.")


def _evaluate(root: Path, arguments: list[str], work_dir: Path) -> dict[str, float]:
    """The scores that tools/test.py of this project prints, called in a folder."""
    tool = Path(__file__).resolve().parents[3] / 'tools' / 'test.py'
    command = [sys.executable, str(tool), *arguments, '--work-dir', str(work_dir)]
    outcome = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if outcome.returncode:
        last = (outcome.stderr.strip().splitlines() or ['it said nothing'])[-1]
        raise UserError(f'tools/test.py failed on the images in the project: {last.removeprefix("error: ")}')
    return read_evaluation(work_dir)
