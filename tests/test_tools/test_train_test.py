"""tools/train.py and tools/test.py, alone and on two processes, for detection, segmentation and classification."""

import json
import pickle
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import torch

CHECKPOINT_SECONDS = 120


def scores_of(work_dir):
    """The scores in the newest log below a work dir."""
    return json.loads(max(work_dir.glob('2*/2*.json')).read_text())


def scalars_of(work_dir):
    """The training lines of the newest log below a work dir."""
    lines = max(work_dir.glob('2*/vis_data/scalars.json')).read_text().splitlines()
    return [line for line in map(json.loads, lines) if 'loss' in line]


def read(path):
    return torch.load(path, weights_only=False)


def test_training_leaves_the_last_checkpoint_and_its_config(detector):
    assert (detector / 'last_checkpoint').read_text() == str(detector / 'epoch_2.pth')
    assert [path.name for path in detector.glob('*.pth*')] == ['epoch_2.pth']
    meta = read(detector / 'epoch_2.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (2, 4)
    assert "type='mmatconv.AttNet'" in (detector / 'det.py').read_text()


def test_auto_scale_lr_follows_the_batch_size(detector):
    # 2 images a batch where the learning rate of 1e-3 is for 8.
    assert {line['lr'] for line in scalars_of(detector)} == {2.5e-4}


def assert_one_writer_each(writers, folder):
    """Every file below a folder, logs included, was written by one process of the run."""
    ranks = writers()
    files = {str(path.relative_to(folder.parent)) for path in folder.rglob('*') if path.is_file()}
    assert files - set(ranks) == set()
    assert {name: found for name, found in ranks.items() if len(found) != 1} == {}
    return ranks


def test_one_and_two_processes_agree(run, detector, writers, tmp_path):
    """Five images on two processes: one is repeated to even them out and must not be counted or drawn twice."""
    config_before = (detector / 'det.py').read_text()
    # A detector that has seen eight images has no precision to compare, but with every box kept it has recall.
    loose = (
        '--cfg-options',
        'model.test_cfg.rpn.max_per_img=1000',
        'model.test_cfg.rcnn.max_per_img=1000',
        'model.test_cfg.rcnn.score_thr=0.0',
        'test_evaluator.metric_items=[mAP,mAP_50,AR@1000]',
    )
    checkpoint = detector / 'epoch_2.pth'
    # Bits are compared, and two threads add up in another order than one.
    variables = dict(writers.variables, OMP_NUM_THREADS='1')
    alone = run('test.py', 'det.py', checkpoint, '--work-dir', detector, '--out', 'one.pkl', '--show-dir', 'show_one',
                *loose, cwd=tmp_path, OMP_NUM_THREADS='1')  # fmt: skip
    assert alone.status == 0, alone.errors
    both = run('dist_test.sh', 'det.py', checkpoint, 2, '--work-dir', 'two', '--out', 'two.pkl', '--show-dir',
               'show_two', *loose, cwd=tmp_path, **variables)  # fmt: skip
    assert both.status == 0, both.errors
    ranks = assert_one_writer_each(writers, tmp_path / 'two')
    (log_dir,) = (tmp_path / 'two').glob('2*')
    log = f'two/{log_dir.name}/{log_dir.name}'
    assert [ranks[name] for name in (f'{log}.json', f'{log}.log', 'two.pkl')] == [{'0'}] * 3
    drawn = [ranks[f'show_two/{index:012d}.jpg'] for index in range(1, 6)]
    assert drawn == [{'0'}, {'1'}, {'0'}, {'1'}, {'0'}]
    assert 'CPU, 2 processes' in both.output

    scores = scores_of(detector)
    assert scores['coco/bbox_AR@1000'] > 0
    timing = ('time', 'data_time')
    assert {key: value for key, value in scores_of(tmp_path / 'two').items() if key not in timing} == {
        key: value for key, value in scores.items() if key not in timing
    }

    predictions = [pickle.loads((tmp_path / name).read_bytes()) for name in ('one.pkl', 'two.pkl')]
    assert [len(part) for part in predictions] == [5, 5]
    for one, two in zip(*predictions):
        assert one['img_id'] == two['img_id']
        assert len(one['pred_instances']['scores']) > 0
        assert torch.equal(one['pred_instances']['bboxes'], two['pred_instances']['bboxes'])
        assert one['pred_instances']['masks'] == two['pred_instances']['masks']

    # Both processes draw; the prediction stands beside the ground truth, so a picture is twice as wide as its image.
    names = [f'{index:012d}.jpg' for index in range(1, 6)]
    for folder in ('show_one', 'show_two'):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
        assert cv2.imread(str(tmp_path / folder / names[0])).shape == (96, 192, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['one.pkl', 'show_one', 'show_two', 'two', 'two.pkl']
    assert (detector / 'det.py').read_text() == config_before


def interrupt_after_a_checkpoint(process, work_dir):
    """Sends Ctrl-C's signal and returns the last checkpoint, once the tool has said which it is."""
    pointer = work_dir / 'last_checkpoint'
    limit = time.monotonic() + CHECKPOINT_SECONDS
    while not pointer.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=CHECKPOINT_SECONDS)
    assert process.returncode == 130, errors
    assert 'Traceback' not in output + errors
    last = Path(pointer.read_text())
    assert [line for line in errors.splitlines() if line.startswith('interrupted')] == [
        f'interrupted; the last checkpoint is {last}, call the same command with --resume to continue from it'
    ]
    # max_keep_ckpts is 1: the one that is kept is whole, and no other is left.
    assert [path.name for path in last.parent.glob('*.pth*')] == [last.name]
    return last, read(last)['meta']


def test_interrupted_training_goes_on(start, run, tmp_path):
    """In mixed precision, which is bfloat16 where there is no GPU."""
    endless = ('--cfg-options', 'train_cfg.max_epochs=10000', 'train_cfg.val_interval=20000')
    process = start('train.py', 'det.py', '--amp', '--work-dir', 'work', *endless, cwd=tmp_path)
    _, meta = interrupt_after_a_checkpoint(process, tmp_path / 'work')

    goal = meta['epoch'] + 1
    rest = ('--cfg-options', f'train_cfg.max_epochs={goal}', 'train_cfg.val_interval=20000')
    resumed = run('train.py', 'det.py', '--amp', '--work-dir', 'work', '--resume', *rest, cwd=tmp_path)
    assert resumed.status == 0, resumed.errors
    assert f'resumed at epoch {meta["epoch"]}/{goal}, iteration {meta["iter"]}/' in resumed.output
    assert {line['epoch'] for line in scalars_of(tmp_path / 'work')} == {goal}
    assert all(np.isfinite(line['loss']) for line in scalars_of(tmp_path / 'work'))
    end = read(tmp_path / 'work' / f'epoch_{goal}.pth')['meta']
    assert (end['epoch'], end['iter']) == (goal, 2 * goal)

    assert 'mixed precision is bfloat16 on the CPU' in resumed.output
    assert "type='mmatconv.engine.optim.amp.BFloat16OptimWrapper'" in (tmp_path / 'work' / 'det.py').read_text()


def test_interrupting_the_launcher_ends_all_processes(start, tmp_path):
    endless = ('--cfg-options', 'train_cfg.max_epochs=10000', 'train_cfg.val_interval=20000')
    process = start('dist_train.sh', 'det.py', 2, '--work-dir', 'work', *endless, cwd=tmp_path)
    last, meta = interrupt_after_a_checkpoint(process, tmp_path / 'work')
    # Four images in batches of two on two processes: one iteration an epoch.
    assert meta['iter'] == meta['epoch']
    assert last.parent == tmp_path / 'work'


def test_segmentation_on_two_processes_then_augmented(run, writers, tmp_path):
    trained = run('dist_train.sh', 'seg.py', 2, '--work-dir', 'work', cwd=tmp_path, **writers.variables)
    assert trained.status == 0, trained.errors
    ranks = assert_one_writer_each(writers, tmp_path / 'work')
    assert {'work/seg.py', 'work/last_checkpoint', 'work/iter_4.pth', 'work/best_mIoU_iter_4.pth'} <= set(ranks)
    assert sum(name.endswith('vis_data/scalars.json') for name in ranks) == 1
    # SyncBN of the base config: three in the neck's and head's ConvModules would die on the CPU.
    assert 'SyncBatchNorm needs GPUs' in trained.output
    names = sorted(path.name for path in (tmp_path / 'work').glob('*.pth'))
    assert names == ['best_mIoU_iter_4.pth', 'iter_2.pth', 'iter_4.pth']

    # Both processes validated with the statistics that the checkpoint holds.
    again = run('dist_test.sh', 'seg.py', 'work/iter_4.pth', 2, '--work-dir', 'again', '--cfg-options',
                'test_evaluator.output_dir=maps', cwd=tmp_path, **writers.variables)  # fmt: skip
    assert again.status == 0, again.errors
    ranks = assert_one_writer_each(writers, tmp_path / 'again')
    assert [ranks[f'maps/{index:012d}.png'] for index in range(1, 6)] == [{'0'}, {'1'}, {'0'}, {'1'}, {'0'}]
    (log,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    validated = [entry for entry in trained.scalars(log) if 'mIoU' in entry][-1]
    for name in ('mIoU', 'aAcc', 'mAcc'):
        assert scores_of(tmp_path / 'again')[name] == validated[name]

    tested = run('test.py', 'seg.py', 'work/iter_4.pth', '--tta', '--out', 'maps.pkl', '--show-dir', 'show',
                 '--work-dir', 'tested', cwd=tmp_path)  # fmt: skip
    assert tested.status == 0, tested.errors
    assert 0 < scores_of(tmp_path / 'tested')['mIoU'] < 100
    maps = pickle.loads((tmp_path / 'maps.pkl').read_bytes())
    assert len(maps) == 5
    for entry in maps:
        assert entry['pred_sem_seg']['data'].shape == (1, 96, 96)
        assert entry['pred_sem_seg']['data'].dtype == torch.uint8
        assert not {'seg_logits', 'gt_sem_seg'} & set(entry)
    assert cv2.imread(str(tmp_path / 'show' / '000000000001.jpg')).shape == (96, 192, 3)


def test_boxes_augmented_with_the_default_flip(run, detector, tmp_path):
    checkpoint = read(detector / 'epoch_2.pth')
    checkpoint['state_dict'] = {name: t for name, t in checkpoint['state_dict'].items() if 'mask_head' not in name}
    torch.save(checkpoint, tmp_path / 'boxes.pth')
    outcome = run('test.py', 'det.py', 'boxes.pth', '--tta', '--out', 'boxes.pkl', '--work-dir', 'work',
                  '--cfg-options', 'model.roi_head.mask_head=None', 'test_evaluator.metric=bbox',
                  cwd=tmp_path)  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert 'coco/bbox_mAP' in scores_of(tmp_path / 'work')
    # Twice the 20 boxes of one view, before what overlaps is merged.
    assert (
        max(len(entry['pred_instances']['scores']) for entry in pickle.loads((tmp_path / 'boxes.pkl').read_bytes()))
        > 20
    )


def test_classification(run, tmp_path):
    trained = run('train.py', 'cls.py', '--work-dir', 'work', cwd=tmp_path)
    assert trained.status == 0, trained.errors
    tested = run('dist_test.sh', 'cls.py', 'work/epoch_1.pth', 1, '--work-dir', 'tested', '--out', 'classes.pkl',
                 '--show-dir', 'show', '--tta', cwd=tmp_path)  # fmt: skip
    assert tested.status == 0, tested.errors
    assert scores_of(tmp_path / 'tested')['accuracy/top1'] in (0, 25, 50, 75, 100)
    entries = pickle.loads((tmp_path / 'classes.pkl').read_bytes())
    assert [entry['gt_label'].item() for entry in entries] == [0, 0, 1, 1]
    assert all(abs(entry['pred_score'].sum().item() - 1) < 1e-5 for entry in entries)
    shown = [str(path.relative_to(tmp_path / 'show')) for path in (tmp_path / 'show').rglob('*.png')]
    assert sorted(shown) == ['dark/0.png', 'dark/1.png', 'light/0.png', 'light/1.png']
