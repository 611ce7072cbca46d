"""Classes of the config, of the file and of the heads: one sentence with the names of both sides."""

import json

import pytest
from mmdet.datasets import CocoDataset  # noqa: F401  registers it

from mmatconv.engine.checks.class_names import check_heads, class_names
from mmatconv.engine.checks.coco_json import check_coco
from mmatconv.errors import UserError

COCO = ('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'bench')
HEAD = dict(type='Shared2FCBBoxHead', num_classes=10)


def test_both_lists_of_names_are_in_the_sentence(tmp_path):
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(dict(images=[], annotations=[], categories=[dict(id=1, name='nucleus')])))
    with pytest.raises(UserError) as error:
        check_coco(str(file), 'train_dataloader.dataset', classes=COCO)
    assert str(error.value) == (
        f"annotation file '{file}' of train_dataloader.dataset: it has no category 'person': its categories are "
        "'nucleus', the classes of the config 'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', "
        "'truck' and 2 more; set metainfo.classes of every data set to the names in the file, and num_classes of "
        'every head to how many they are'
    )
    check_coco(str(file), 'train', classes=['nucleus'])


def test_without_metainfo_the_classes_are_those_of_the_type():
    assert class_names(dict(type='CocoDataset'), 'mmdet')[:2] == ['person', 'bicycle']
    assert class_names(dict(type='CocoDataset', metainfo=dict(classes=('nucleus',))), 'mmdet') == ['nucleus']
    assert class_names(dict(type='BaseDataset'), 'mmengine') is None
    assert class_names(dict(type='NoSuchDataset'), 'mmdet') is None


@pytest.mark.parametrize(
    ('model', 'head'),
    [
        (dict(roi_head=dict(bbox_head=HEAD)), 'model.roi_head.bbox_head'),
        (dict(roi_head=dict(bbox_head=[dict(HEAD, num_classes=2), HEAD])), 'model.roi_head.bbox_head.1'),
        (dict(roi_head=dict(mask_head=HEAD)), 'model.roi_head.mask_head'),
        (dict(decode_head=HEAD), 'model.decode_head'),
    ],
)
def test_a_head_with_another_number_is_named(model, head):
    with pytest.raises(UserError) as error:
        check_heads(model, ['disc', 'ring'], 'train_dataloader.dataset')
    assert str(error.value) == (
        f'{head}.num_classes is 10, expected 2, the number of classes of train_dataloader.dataset '
        "('disc', 'ring'); set num_classes of every head to 2, or correct train_dataloader.dataset.metainfo.classes"
    )


def test_heads_that_predict_something_else_are_left_alone():
    masks = dict(type='FCNMaskHead', num_classes=80, class_agnostic=True)
    check_heads(dict(rpn_head=dict(num_classes=1), roi_head=dict(mask_head=masks)), ['disc', 'ring'], 'train')


def test_heads_with_the_number_of_the_classes_pass():
    check_heads(dict(roi_head=dict(bbox_head=[HEAD, HEAD], mask_head=HEAD)), COCO, 'train')
