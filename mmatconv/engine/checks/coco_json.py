"""Whether a COCO annotation file holds what mmdet's CocoDataset looks for.

pycocotools checks nothing. What is checked here is what it and mmdet lose without a word (entries whose id, image or
category does not fit, classes that are not there), what ends in a traceback in the middle of a training, and run
lengths that do not add up, on which pycocotools 2.0.11 writes past its buffer and the process is aborted.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from mmatconv.engine.checks.class_names import listed
from mmatconv.errors import UserError

NUMBERS = frozenset({int, float})
# More than the pixels of any image; not NaN or Infinity, which Python's json reads.
LARGEST = 1e12
ADVICE = 'correct it or fetch the file again'


def check_coco(
    file: str, where: str, labels: bool = True, masks: bool = False, classes: Sequence[str] | None = None
) -> None:
    """Reads a file of instances and checks every entry.

    Args:
        file: its path.
        where: its place in the config, for the sentence.
        labels: whether there must be annotations; test sets are published without.
        masks: whether each annotation must have a segmentation.
        classes: names that must be among its categories. Default: None, any.

    Raises:
        UserError: it is not valid JSON, or an entry is missing, of another type, or refers to one that does not exist;
            the message names the first such entry.
    """
    try:
        with open(file, encoding='utf-8') as stream:
            content = json.load(stream)
    except (ValueError, RecursionError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f"annotation file '{file}' of {where} is not valid JSON ({reason}); fetch it again") from error
    try:
        _check(content, labels, masks, classes)
    except _OddError as error:
        raise UserError(f"annotation file '{file}' of {where}: {error}; {error.advice}") from None


class _OddError(ValueError):
    """What is wrong, without where."""

    def __init__(self, text: str, advice: str = ADVICE) -> None:
        super().__init__(text)
        self.advice = advice


def _check(content: Any, labels: bool, masks: bool, classes: Sequence[str] | None) -> None:
    if type(content) is not dict:
        raise _OddError(f'it holds {_shown(content)}, expected an object with images, annotations and categories')
    lists = {}
    for name in ('images', 'annotations', 'categories'):
        lists[name] = content.get(name, None if labels or name != 'annotations' else [])
        if type(lists[name]) is not list:
            raise _OddError(f"'{name}' is {_shown(lists[name])}, expected a list")
        for index, entry in enumerate(lists[name]):
            if type(entry) is not dict:
                raise _OddError(f'{name}[{index}] is {_shown(entry)}, expected an object')
    categories = _ids(lists['categories'], 'categories')
    names = [category.get('name') for category in lists['categories']]
    for index, name in enumerate(names):
        if type(name) is not str or name in names[:index]:
            raise _OddError(f'categories[{index}] has the name {_shown(name)}, expected a text of its own')
    if missing := [name for name in classes or () if name not in names]:
        raise _OddError(
            f"it has no category '{missing[0]}': its categories are {listed(names)}, the classes of the config "
            f'{listed(classes)}',
            'set metainfo.classes of every data set to the names in the file, and num_classes of every head to how '
            'many they are',
        )
    images = _ids(lists['images'], 'images')
    for index, image in enumerate(lists['images']):
        if type(image.get('file_name')) is not str or not image['file_name']:
            raise _OddError(f'images[{index}] has the file_name {_shown(image.get("file_name"))}, expected a text')
        for side in ('height', 'width'):
            if not _finite([image.get(side)]) or image[side] < 1:
                raise _OddError(f'images[{index}] has the {side} {_shown(image.get(side))}, expected a positive number')
    _ids(lists['annotations'], 'annotations')
    for index, annotation in enumerate(lists['annotations']):
        try:
            _check_annotation(annotation, images, categories, masks)
        except _OddError as error:
            raise _OddError(f'annotations[{index}] (id {annotation["id"]}) {error}') from None


def _ids(entries: list[dict], name: str) -> dict[int | str, dict]:
    found: dict[int | str, dict] = {}
    for index, entry in enumerate(entries):
        number = entry.get('id')
        if type(number) not in (int, str):
            raise _OddError(f'{name}[{index}] has the id {_shown(number)}, expected a number')
        if number in found:
            raise _OddError(f'{name}[{index}] has the id {number} of another entry, expected one of its own')
        found[number] = entry
    return found


def _check_annotation(annotation: dict, images: dict, categories: Collection, masks: bool) -> None:
    for key, known, what in (('image_id', images, 'images'), ('category_id', categories, 'categories')):
        number = annotation.get(key)
        if type(number) not in (int, str) or number not in known:
            raise _OddError(f'has the {key} {_shown(number)}, expected the id of one of its {what}')
    if annotation.get('ignore'):
        return
    box = annotation.get('bbox')
    if type(box) is not list or len(box) != 4 or not _finite(box):
        raise _OddError(f'has the bbox {_shown(box)}, expected four numbers, x, y, width and height')
    area = annotation.get('area')
    if not _finite([area]):
        raise _OddError(f'has the area {_shown(area)}, expected a number')
    if annotation.get('iscrowd', 0) not in (0, 1):
        raise _OddError(f'has iscrowd {_shown(annotation["iscrowd"])}, expected 0 or 1')
    segmentation = annotation.get('segmentation')
    if not segmentation and not masks and segmentation in (None, []):
        return
    image = images[annotation['image_id']]
    if type(segmentation) is dict:
        _check_run_lengths(segmentation, image)
    elif type(segmentation) is not list or not segmentation or not all(map(_is_polygon, segmentation)):
        raise _OddError(
            f'has the segmentation {_shown(segmentation)}, expected polygons x, y, x, y, ... or run lengths'
        )


def _check_run_lengths(mask: dict, image: dict) -> None:
    size, counts = mask.get('size'), mask.get('counts')
    if size != [image['height'], image['width']]:
        expected = f'{image["height"]} and {image["width"]} of its image'
        raise _OddError(f'has a segmentation of the size {_shown(size)}, expected {expected}')
    try:
        runs = _decode(counts) if type(counts) is str else counts
        whole = type(runs) is list and set(map(type, runs)) <= {int} and min(runs) >= 0
    except ValueError:
        whole = False
    if not whole or sum(runs) != image['height'] * image['width']:
        raise _OddError(f'has a segmentation with the counts {_shown(counts)}, expected run lengths of all its pixels')


def _decode(text: str) -> list[int]:
    """Run lengths from pycocotools' text: numbers of five bits a character, from the third on as differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(character)
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError(text)
    return runs


def _is_polygon(value: Any) -> bool:
    return type(value) is list and _finite(value)


def _finite(values: list) -> bool:
    return set(map(type, values)) <= NUMBERS and sum(map(abs, values)) < LARGEST


def _shown(value: Any) -> str:
    text = 'nothing' if value is None else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else f'{text[:57]}...'
