"""Broken COCO annotation files: one sentence with the file and the first odd entry, or a clean load by mmdet."""

import copy
import json
import random

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as pycocotools_mask

from mmatconv.engine.checks import preflight
from mmatconv.engine.checks.coco_json import check_coco
from mmatconv.errors import UserError

CLASSES = ('disc', 'ring')


@pytest.fixture
def content():
    """Three images: polygons, run lengths as a list and as text, and one without annotations."""
    rle = pycocotools_mask.encode(np.asfortranarray(np.eye(8, 6, dtype=np.uint8)))
    image = dict(height=8, width=6)
    box = dict(bbox=[0, 1.5, 4, 5], area=20.0, iscrowd=0)
    counts = {'size': [8, 6], 'counts': [5, 10, 33]}
    text = {'size': [8, 6], 'counts': rle['counts'].decode()}
    made = {
        'images': [dict(image, id=i, file_name=f'{i}.jpg') for i in (1, 2, 3)],
        'categories': [dict(id=4, name='disc'), dict(id=9, name='ring')],
        'annotations': [
            dict(box, id=1, image_id=1, category_id=4, segmentation=[[0, 0, 4, 0, 4, 5.5], [1, 1, 2, 1, 2, 2, 1, 2]]),
            dict(box, id=2, image_id=2, category_id=9, segmentation=counts),
            dict(box, id=3, image_id=2, category_id=4, segmentation=text),
        ],
    }
    return json.loads(json.dumps(made))  # nothing shared


@pytest.fixture
def sentence(tmp_path):
    """What is said of a file, without its name."""

    def of(content, **options):
        file = tmp_path / 'a.json'
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(UserError) as error:
            check_coco(str(file), 'train', **options)
        text = str(error.value)
        assert text.startswith(f"annotation file '{file}' of train") and '\n' not in text
        return text.removeprefix(f"annotation file '{file}' of train").removeprefix(': ').split(';')[0]

    return of


ODD = [
    (['annotations', 2, 'bbox'], [1, 2, 3], 'annotations[2] (id 3) has the bbox [1, 2, 3], expected four numbers'),
    (['annotations', 1, 'bbox', 2], None, 'annotations[1] (id 2) has the bbox [0, 1.5, null, 5], expected four'),
    (['annotations', 1, 'bbox', 2], float('nan'), 'annotations[1] (id 2) has the bbox [0, 1.5, NaN, 5], expected four'),
    (['annotations', 0, 'bbox'], '0 1 4 5', 'annotations[0] (id 1) has the bbox "0 1 4 5", expected four numbers'),
    (['annotations', 0, 'area'], [3], 'annotations[0] (id 1) has the area [3], expected a number'),
    (['annotations', 0, 'iscrowd'], 'no', 'annotations[0] (id 1) has iscrowd "no", expected 0 or 1'),
    (['annotations', 2, 'image_id'], 77, 'annotations[2] (id 3) has the image_id 77, expected the id of one of its im'),
    (['annotations', 2, 'image_id'], [1], 'annotations[2] (id 3) has the image_id [1], expected the id of one of'),
    (['annotations', 2, 'category_id'], 5, 'annotations[2] (id 3) has the category_id 5, expected the id of one of'),
    (['annotations', 2, 'category_id'], True, 'annotations[2] (id 3) has the category_id true, expected the id of'),
    (['annotations', 2, 'id'], 1, 'annotations[2] has the id 1 of another entry, expected one of its own'),
    (['annotations', 0, 'segmentation'], [[0, 'a']], 'annotations[0] (id 1) has the segmentation [[0, "a"]], expected'),
    (['annotations', 0, 'segmentation'], [0, 1, 2], 'annotations[0] (id 1) has the segmentation [0, 1, 2], expected p'),
    (['annotations', 0, 'segmentation'], 'x', 'annotations[0] (id 1) has the segmentation "x", expected polygons'),
    (['annotations', 1, 'segmentation', 'size'], [6, 8], 'has a segmentation of the size [6, 8], expected 8 and 6 of'),
    (['annotations', 1, 'segmentation', 'counts', 0], 6, 'with the counts [6, 10, 33], expected run lengths of'),
    (['annotations', 1, 'segmentation', 'counts', 0], '5', 'with the counts ["5", 10, 33], expected run lengths of'),
    (['annotations', 2, 'segmentation', 'counts'], '0~', 'with the counts "0~", expected run lengths of'),
    (['images', 1, 'id'], 1, 'images[1] has the id 1 of another entry, expected one of its own'),
    (['images', 1, 'id'], None, 'images[1] has the id nothing, expected a number'),
    (['images', 1, 'height'], 0, 'images[1] has the height 0, expected a positive number'),
    (['images', 1, 'file_name'], 3, 'images[1] has the file_name 3, expected a text'),
    (['images', 1], 'b.jpg', 'images[1] is "b.jpg", expected an object'),
    (['categories', 1, 'name'], 'disc', 'categories[1] has the name "disc", expected a text of its own'),
    (['categories', 1, 'name'], 'rong', "it has no category 'ring': its categories are 'disc', 'rong', the classes of"),
    (['categories'], {}, "'categories' is {}, expected a list"),
]  # fmt: skip


@pytest.mark.parametrize(('path', 'value', 'expected'), ODD)
def test_the_first_odd_entry_is_named(content, sentence, path, value, expected):
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert expected in sentence(content, masks=True, classes=CLASSES)


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_missing_keys_are_named(content, sentence, key):
    del content[key]
    assert sentence(content) == f"'{key}' is nothing, expected a list"


def test_what_is_no_json_or_another_one_is_named(content, sentence):
    assert sentence('{"images": [').startswith(' is not valid JSON (Expecting value: line 1 column 13')
    assert sentence('[' * 100_000).startswith(' is not valid JSON (maximum recursion depth exceeded')
    assert sentence('[1]') == 'it holds [1], expected an object with images, annotations and categories'


def test_what_mmdet_takes_is_left_alone(content, tmp_path):
    del content['annotations'][0]['segmentation']
    content['annotations'][1] |= {'ignore': 1, 'bbox': None}
    content['annotations'][2]['segmentation'] = []
    (tmp_path / 'a.json').write_text(json.dumps(content))
    check_coco(str(tmp_path / 'a.json'), 'train', classes=CLASSES[:1])
    with pytest.raises(UserError, match='the segmentation nothing, expected polygons'):
        check_coco(str(tmp_path / 'a.json'), 'train', masks=True)
    del content['annotations']
    (tmp_path / 'a.json').write_text(json.dumps(content))
    check_coco(str(tmp_path / 'a.json'), 'test', labels=False)


def test_the_tools_check_each_file_once(content, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(preflight, 'check_coco', lambda file, **options: calls.append((file, options)))
    steps = [dict(type='LoadAnnotations', with_mask=True)]
    part = dict(type='CocoDataset', data_root='d', ann_file='a.json', metainfo=dict(classes=CLASSES), pipeline=steps)
    config = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=part)),
            val_dataloader=dict(dataset=dict(type='mmdet.CocoDataset', ann_file='b.json')),
            val_evaluator=[dict(type='CocoMetric', ann_file='b.json'), dict(type='CocoMetric', ann_file='c.json')],
        )
    )
    preflight.check_annotation_files(config, ['train_dataloader', 'val_dataloader'], 'val_evaluator')
    where = 'train_dataloader.dataset.dataset'
    coco = list(CocoDataset.METAINFO['classes'])
    assert calls == [
        ('d/a.json', dict(where=where, labels=True, masks=True, classes=list(CLASSES))),
        # Where a config names no classes, they are the 80 of COCO.
        ('b.json', dict(where='val_dataloader.dataset', labels=True, masks=False, classes=coco)),
        ('c.json', dict(where='val_evaluator', labels=True)),
    ]
    monkeypatch.setenv('LOCAL_RANK', '1')
    preflight.check_annotation_files(config, ['train_dataloader'], 'val_evaluator')
    assert len(calls) == 3


# ---- 200 mutations -------------------------------------------------------------------------------------------------

VALUES = [None, True, -1, 0, 3, 10**30, 0.5, float('nan'), float('inf'), '', 'disc', [], [1], [[1, 2]], {}, {'size': 1}]


def places(node):
    """Every container in a tree with each of its keys."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def mutate(content, chance):
    """The text of a file that differs from `content` in one place."""
    kind = chance.choice(['value', 'value', 'removed', 'renamed', 'doubled', 'truncated', 'byte', 'byte'])
    tree = copy.deepcopy(content)
    node, key = chance.choice(list(places(tree)))
    if kind == 'value':
        node[key] = chance.choice(VALUES)
    elif kind == 'removed':
        del node[key]
    elif kind == 'renamed' and isinstance(node, dict):
        node[f'{key}_'] = node.pop(key)
    elif kind == 'doubled' and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    text = bytearray(json.dumps(tree).encode())
    if kind == 'truncated':
        del text[chance.randrange(len(text)) :]
    elif kind == 'byte':
        text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
    return bytes(text)


def test_200_mutations_load_or_end_in_one_sentence(content, tmp_path):
    chance = random.Random(0)
    init_default_scope('mmdet')
    loading = [LoadAnnotations(with_bbox=True, with_mask=True, poly2mask=poly2mask) for poly2mask in (True, False)]
    refused = 0
    for number in range(200):
        file = tmp_path / f'{number}.json'
        file.write_bytes(mutate(content, chance))
        try:
            check_coco(str(file), 'train', masks=True, classes=CLASSES)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"annotation file '{file}' of train") and '\n' not in str(error)
            assert len(str(error)) < 400
            continue
        options = dict(metainfo=dict(classes=CLASSES), data_prefix=dict(img=''), pipeline=[])
        # Serialising collects the garbage of the whole process, a third of a second each time.
        data = CocoDataset(ann_file=str(file), serialize_data=False, **options)
        assert len(data) == len(json.loads(file.read_bytes())['images']) and len(data.cat_ids) == 2
        for index in range(len(data)):
            for step in loading:
                sample = step(dict(data.get_data_info(index), ori_shape=(8, 6)))
                assert len(sample['gt_masks']) == len(sample['gt_bboxes'])
                assert np.isfinite(sample['gt_bboxes'].numpy()).all()
    assert 100 < refused < 180
