"""The figures of a run of the quickstart, taken into its metafile."""

import re
from pathlib import Path

from PIL import Image

from mmatconv.analysis.model_zoo import QUICKSTART
from mmatconv.analysis.run_report import METRICS, read_evaluation
from mmatconv.engine.console.metrics import number
from mmatconv.errors import UserError

MODEL = 'mask-rcnn_attnet-xxs_fpn_shapes'
PICTURE = Path('docs', 'images', 'quickstart.jpg')
PICTURE_WIDTH = 1200
PICTURE_BYTES = 300_000


def take_results(run: Path, root: Path) -> None:
    """Writes the scores of a run of tools/quickstart.sh into the metafile, and its sheet into docs/images.

    Args:
        run: The folder that the quickstart writes, work_dirs/quickstart.
        root: The folder of the project.

    Raises:
        UserError: The run has no evaluation or no sheet, or lacks a metric that the metafile lists.
    """
    metrics = read_evaluation(run / 'mask-rcnn')
    sheet = run / 'predictions.png'
    if not sheet.is_file():
        raise UserError(f"'{sheet}' does not exist; run make quickstart to its end first.")
    measured = {METRICS[name]: number(name, value) for name, value in metrics.items()}
    path = root / QUICKSTART
    path.write_text(with_results(path.read_text(), MODEL, measured))
    _write_small(sheet, root / PICTURE)


def with_results(text: str, model: str, measured: dict[str, str]) -> str:
    """The text of a metafile with new values for the metrics that it lists for one of its models.

    Args:
        text: The metafile; comments and order stay.
        model: The model's name.
        measured: New values by metric.

    Raises:
        UserError: The metafile does not have the model, or lists a metric that was not measured.
    """
    found = re.search(rf'^  - Name: {re.escape(model)}\n(?:(?!  - Name:).*\n?)*', text, re.MULTILINE)
    if found is None:
        raise UserError(f'{QUICKSTART} does not list {model}.')

    def renew(metric: re.Match) -> str:
        name = metric[1]
        if name not in measured:
            raise UserError(f"{QUICKSTART} lists '{name}' for {model}, which the run did not measure.")
        return f'{name}: {measured[name]}'

    def renew_all(metrics: re.Match) -> str:
        return re.sub(r'(\w[\w ]*): [-\d.]+', renew, metrics[0])

    return text[: found.start()] + re.sub(r'(?<=Metrics: ){.*}', renew_all, found[0]) + text[found.end() :]


def _write_small(source: Path, target: Path) -> None:
    image = Image.open(source).convert('RGB')
    if image.width > PICTURE_WIDTH:
        image = image.resize((PICTURE_WIDTH, image.height * PICTURE_WIDTH // image.width), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    for quality in (90, 80, 70, 60, 50, 40):
        image.save(target, quality=quality, optimize=True)
        if target.stat().st_size < PICTURE_BYTES:
            break
