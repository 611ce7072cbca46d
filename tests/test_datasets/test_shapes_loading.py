"""The generated data set as mmdet and mmseg read it, and score it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmatconv.datasets import CLASSES, PALETTE, SEG_CLASSES

METAINFO = {'classes': SEG_CLASSES, 'palette': PALETTE}


def coco_dataset(root, split, **kwargs):
    from mmcv.transforms import LoadImageFromFile
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs

    # Objects, not dicts: nothing has to be looked up, so no default scope is needed.
    return CocoDataset(
        data_root=str(root / 'coco'),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix={'img': f'{split}/'},
        metainfo={'classes': CLASSES, 'palette': PALETTE[1:]},
        pipeline=[LoadImageFromFile(), LoadAnnotations(with_bbox=True, with_mask=True), PackDetInputs()],
        **kwargs,
    )


def seg_dataset(cls, root, folder, **kwargs):
    from mmcv.transforms import LoadImageFromFile
    from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs

    return cls(
        data_root=str(root / 'ade'),
        data_prefix={'img_path': f'images/{folder}', 'seg_map_path': f'annotations/{folder}'},
        img_suffix='.jpg',
        seg_map_suffix='.png',
        reduce_zero_label=True,
        pipeline=[LoadImageFromFile(), LoadAnnotations(), PackSegInputs()],
        **kwargs,
    )


def test_mmdet_reads_it(root, load):
    dataset = coco_dataset(root, 'train', filter_cfg={'filter_empty_gt': True, 'min_size': 32})
    _, annotations = load(root, 'train')
    assert len(dataset) == 10
    counts = {False: 0, True: 0}
    for i in range(10):
        item = dataset[i]
        image_id = item['data_samples'].img_id
        assert item['inputs'].shape == (3, 96, 96)
        for crowd, instances in (
            (False, item['data_samples'].gt_instances),
            (True, item['data_samples'].ignored_instances),
        ):
            expected = [(a, m) for a, m in annotations if a['image_id'] == image_id and a['iscrowd'] == crowd]
            counts[crowd] += len(expected)
            assert instances.labels.tolist() == [a['category_id'] - 1 for a, _ in expected]
            assert len(instances.masks) == len(expected)
            for got, (_, mask) in zip(instances.masks.masks, expected):
                assert np.array_equal(got.astype(bool), mask)
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a, _ in expected)]
            assert instances.bboxes.tensor.tolist() == boxes
    assert counts[False] >= 10 and counts[True] == 2


def test_perfect_detections_score_one(root, load):
    import torch
    from mmdet.evaluation import CocoMetric

    file = root / 'coco/annotations/instances_val.json'
    dataset, annotations = load(root, 'val')
    metric = CocoMetric(ann_file=str(file), metric=['bbox', 'segm'])
    metric.dataset_meta = {'classes': CLASSES}
    for image in dataset['images']:
        mine = [(a, m) for a, m in annotations if a['image_id'] == image['id'] and not a['iscrowd']]
        boxes = torch.tensor([a['bbox'] for a, _ in mine])
        boxes[:, 2:] += boxes[:, :2]
        found = {
            'bboxes': boxes,
            'labels': torch.tensor([a['category_id'] - 1 for a, _ in mine]),
            'scores': torch.ones(len(mine)),
            'masks': torch.from_numpy(np.stack([m for _, m in mine])),
        }
        sample = {'img_id': image['id'], 'ori_shape': (96, 96), 'pred_instances': found}
        metric.process({}, [sample])
    result = metric.evaluate(size=9)
    for name in ('bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75', 'segm_mAP', 'segm_mAP_50', 'segm_mAP_75'):
        assert result[f'coco/{name}'] == pytest.approx(1.0)


@pytest.mark.parametrize('name', ['BaseSegDataset', 'ADE20KDataset'])
@pytest.mark.parametrize('folder,count', [('training', 10), ('validation', 9)])
def test_mmseg_reads_it(root, name, folder, count):
    import mmseg.datasets

    # ADE20KDataset takes no class names but its own; it sees the layout and the labels all the same.
    kwargs = {'metainfo': METAINFO} if name == 'BaseSegDataset' else {}
    dataset = seg_dataset(getattr(mmseg.datasets, name), root, folder, **kwargs)
    assert len(dataset) == count
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == (6 if kwargs else 150)
    seen = set()
    for i in range(count):
        item = dataset[i]
        labels = item['data_samples'].gt_sem_seg.data[0].numpy()
        file = Path(item['data_samples'].seg_map_path)
        raw = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels, np.where(raw == 0, 255, raw.astype(int) - 1))
        seen |= set(np.unique(labels).tolist())
    assert seen == {0, 1, 2, 3, 4, 5, 255}


def test_perfect_segmentation_scores_hundred(root):
    from mmseg.datasets import BaseSegDataset
    from mmseg.evaluation import IoUMetric

    dataset = seg_dataset(BaseSegDataset, root, 'validation', metainfo=METAINFO)
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dataset.metainfo
    for i in range(9):
        truth = dataset[i]['data_samples'].gt_sem_seg.data
        # What is predicted where the truth is 'ignored' must not count.
        guess = truth.masked_fill(truth == 255, 3)
        metric.process({}, [{'pred_sem_seg': {'data': guess}, 'gt_sem_seg': {'data': truth}}])
    result = metric.evaluate(size=9)
    assert (result['mIoU'], result['aAcc'], result['mAcc']) == (100.0, 100.0, 100.0)
