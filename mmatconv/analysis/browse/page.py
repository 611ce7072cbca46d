"""The page: images, a file of data, and an HTML file that opens from disk."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mmcv
from mmengine.config import Config
from PIL import Image

from mmatconv.analysis.browse import detection, segmentation
from mmatconv.analysis.browse.results import load_results
from mmatconv.errors import UserError

SIDE = 800  # pixels of the longer side of a picture on the page at most
TEMPLATE = Path(__file__).with_name('page.html')


def write_page(
    predictions: Path, config: Config, folder: Path, count: int, progress: Callable[[Iterable], Iterable]
) -> str:
    """Write index.html, data.js and images/ to a folder.

    Args:
        predictions: What ``tools/test.py --out`` wrote.
        config: Of that test.
        folder: Where to write.
        count: Images shown, half of them the worst and half the best; figures are of all.
        progress: Wraps the images one by one.

    Returns:
        The metric of the whole, in words.

    Raises:
        UserError: Files that do not fit, or a damaged image.
    """
    results = load_results(predictions, config)
    pictures = folder / 'images'
    pictures.mkdir(parents=True)
    if results.load_labels is None:
        content = detection.summarise(results)
    else:
        content = segmentation.summarise(results, pictures, SIDE)
    chosen = sorted(content['images'], key=lambda image: (image['score'], image['path']))
    if len(chosen) > count:
        chosen = [*chosen[: (count + 1) // 2], *chosen[len(chosen) - count // 2 :]]
    kept = {image['id'] for image in chosen}
    for image in content['images']:
        if image['id'] not in kept and results.load_labels is not None:
            for key in ('gt', 'pred'):
                (pictures / image[key]).unlink()
    for image in progress(chosen):
        _write_picture(image, pictures)
    content.update(
        images=chosen,
        total=len(results.infos),
        title=f'{predictions.resolve().parent.name}: {content["metric"]} on {len(results.infos)} images',
        classes=results.classes,
        colours=['#{:02x}{:02x}{:02x}'.format(*colour[:3]) for colour in results.palette],
    )
    # A script, not json: browsers do not let a page from disk fetch files.
    text = json.dumps(content, separators=(',', ':')).replace('</', '<\\/')
    (folder / 'data.js').write_text(f'const DATA = {text};\n', encoding='utf-8')
    (folder / 'index.html').write_text(TEMPLATE.read_text(encoding='utf-8'), encoding='utf-8')
    return content['metric']


def _write_picture(image: dict[str, Any], folder: Path) -> None:
    path = Path(image.pop('path'))
    try:
        pixels = mmcv.imread(path, channel_order='rgb')
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read ({error}); restore it.") from None
    if pixels is None:
        raise UserError(f"'{path}' is not an image or is damaged; restore it.")
    picture = Image.fromarray(pixels)
    scale = min(1.0, SIDE / max(picture.size))
    image.update(name=path.name, file=f'{image["id"]:05d}.jpg')
    picture.resize([max(1, round(part * scale)) for part in picture.size]).save(folder / image['file'], quality=85)
