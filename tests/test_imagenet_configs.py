"""Every ImageNet config parses, builds, trains one step and has its recipe; a run's checkpoint loads in a detector."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, DefaultScope

from mmatconv.checkpoint.loading import load_pretrained
from mmatconv.datasets.lmdb_writer import write_lmdb

from .reading import read_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs' / 'imagenet').rglob('*.py'))
CLASSES = {'attnet': 'mmatconv.AttNet', 'atconv-pvt': 'mmatconv.ATConvPVT', 'atconv-swin': 'mmatconv.ATConvSwin'}

# Parameters, drop path, weight decay, MixUp, random erasing (None: no RandAugment either).
# AttNet: the released runs/*.txt. ATConv-PVT and ATConv-Swin: AttNet-T2's, with the drop path of PVT and Swin.
RECIPES = {
    'attnet-xxs': (2_853_556, 0.0, 0.015, 0.05, None),
    'attnet-xs': (5_554_902, 0.02, 0.025, 0.1, None),
    'attnet-s': (7_681_316, 0.05, 0.025, 0.3, 0.0),
    'attnet-t1': (13_714_900, 0.1, 0.025, 0.6, 0.15),
    'attnet-t2': (27_010_782, 0.2, 0.05, 0.8, 0.25),
    'attnet-t3': (49_175_682, 0.4, 0.05, 0.8, 0.25),
    'attnet-t4': (87_320_214, 0.5, 0.05, 0.8, 0.25),
    'atconv-pvt-t': (10_199_224, 0.1, 0.05, 0.8, 0.25),
    'atconv-pvt-s': (18_318_280, 0.1, 0.05, 0.8, 0.25),
    'atconv-pvt-m': (31_886_080, 0.3, 0.05, 0.8, 0.25),
    'atconv-pvt-l': (43_316_178, 0.3, 0.05, 0.8, 0.25),
    'atconv-swin-t': (28_042_240, 0.2, 0.05, 0.8, 0.25),
    'atconv-swin-s': (47_567_416, 0.3, 0.05, 0.8, 0.25),
    'atconv-swin-b': (84_164_312, 0.5, 0.05, 0.8, 0.25),
}
# Tables IX and II: parameters, and what the token mixer of the first stage is and has.
ABLATIONS = {
    'attnet-t2_k5-5-5-5': (27_024_782, 'ATConv', dict(kernel_size=5)),
    'attnet-t2_k7-7-7-7': (27_069_782, 'ATConv', dict(kernel_size=7)),
    'attnet-t2_k7-5-3-3': (27_019_542, 'ATConv', dict(kernel_size=7)),
    'attnet-t2_k7-5-5-3': (27_028_502, 'ATConv', dict(kernel_size=7)),
    'attnet-t2_k7-7-5-3': (27_033_902, 'ATConv', dict(kernel_size=7)),
    'attnet-t2_grid-pool': (27_010_782, 'ATConv', dict(kernel_size=3, context_pool='grid')),
    'attnet-t2_conv3': (40_038_228, 'Conv', dict(kernel_size=(3, 3), groups=1)),
    'attnet-t2_dwconv3': (20_523_924, 'DepthwiseConv', dict(kernel_size=(3, 3), groups=64)),
    'attnet-t2_dwconv5': (20_631_444, 'DepthwiseConv', dict(kernel_size=(5, 5), groups=64)),
    'attnet-t2_dwconv7': (20_792_724, 'DepthwiseConv', dict(kernel_size=(7, 7), groups=64)),
    'attnet-t2_hydra': (29_183_508, 'HydraAttention', {}),
    'attnet-t2_inline': (31_632_468, 'InLineAttention', dict(num_heads=2)),
    'attnet-t2_rank-aug': (31_539_924, 'RankAugAttention', dict(num_heads=2)),
    'attnet-t2_step-kernel-generator': (22_640_670, 'ATConvStep', dict(step='kernel_generator')),
    'attnet-t2_step-output-projection': (24_822_366, 'ATConvStep', dict(step='output_projection')),
    'attnet-t2_step-value-projection': (27_004_062, 'ATConvStep', dict(step='value_projection')),
    'attnet-t2_step-softmax': (27_004_062, 'ATConvStep', dict(step='softmax')),
    'attnet-t2_step-kernel-difference': (27_004_062, 'ATConvStep', dict(step='kernel_difference')),
    'atconv-swin-t_linear-merging': (26_109_568, 'ATConv', dict(kernel_size=3)),
    'atconv-swin-s_linear-merging': (45_634_744, 'ATConv', dict(kernel_size=3)),
    'atconv-swin-b_linear-merging': (80_727_256, 'ATConv', dict(kernel_size=3)),
    # Official Swin.
    'atconv-swin-t_window-attention': (28_288_354, 'WindowAttention', {}),
    'atconv-swin-s_window-attention': (49_606_258, 'WindowAttention', {}),
    'atconv-swin-b_window-attention': (87_768_224, 'WindowAttention', {}),
    # Official PVT less its class token and position embeddings.
    'atconv-pvt-t_sra': (13_229_288 - 389_888, 'SpatialReductionAttention', {}),
    'atconv-pvt-s_sra': (24_485_864 - 389_888, 'SpatialReductionAttention', {}),
    'atconv-pvt-m_sra': (44_208_104 - 389_888, 'SpatialReductionAttention', {}),
    'atconv-pvt-l_sra': (61_369_320 - 389_888, 'SpatialReductionAttention', {}),
}


def name_of(path):
    """The file name up to the batch: model, and variant if there is one."""
    return re.fullmatch(r'(.+)_\d+xb\d+_in1k(-384px)?', Path(path).stem)[1]


def build(config):
    """The model with the preprocessor that MMEngine's Runner gives it."""
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        return MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))


def batch(size):
    from mmpretrain.structures import DataSample

    torch.manual_seed(0)
    images = [torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=torch.stack(images), data_samples=[DataSample().set_gt_label(label) for label in (3, 997)])


def test_every_config_is_in_a_table():
    plain = [name_of(path) for path in CONFIGS if 'ablations' not in path]
    assert sorted(plain) == sorted([*RECIPES, 'atconv-swin-b'])
    assert sorted(name_of(path) for path in CONFIGS if 'ablations' in path) == sorted(ABLATIONS)


@pytest.mark.parametrize('path', CONFIGS)
def test_builds_and_trains_one_step(path):
    config, name = read_config(path), name_of(path)
    base = name.split('_')[0]
    parameters, drop_path, weight_decay, mixup, _ = RECIPES[base]
    model = build(config).train()
    backbone = model.backbone
    assert config.model.backbone.type == CLASSES[base.rpartition('-')[0]]
    assert backbone.stages[-1][-1].drop_path.rate == pytest.approx(drop_path)
    assert backbone.stages[0][0].drop_path.rate == 0
    if 'ablations' in path:
        parameters, kind, attributes = ABLATIONS[name]
        mixer = backbone.stages[0][0].token_mixer
        assert type(mixer).__name__ == kind
        assert {key: getattr(mixer, key) for key in attributes} == attributes
    assert sum(p.numel() for p in model.parameters()) == parameters
    augments = model.data_preprocessor.batch_augments.augments
    assert [(type(a).__name__, a.alpha) for a in augments] == [('Mixup', mixup), ('CutMix', 1.0)]

    data = model.data_preprocessor(batch(32 if parameters > 2e7 else 64), True)
    assert data['data_samples'][0].gt_score.sum() == pytest.approx(1) and len(data['data_samples'][0].gt_score) == 1000
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loss = model(**data, mode='loss')['loss']
        loss.backward()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    # Zero-initialised or not, no model knows the classes yet: ln(1000) = 6.9.
    assert 6 < loss.item() < 8.5
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without, 'DistributedDataParallel would wait for these gradients'
    check_groups(model, wrapper, weight_decay)


@pytest.mark.parametrize('path', [path for path in CONFIGS if re.search('sra|window', path)])
def test_attention_of_the_baselines_is_that_of_mmdet(path):
    """No count tells the heads."""
    from mmdet.models.backbones import PyramidVisionTransformer, SwinTransformer

    mixer = read_config(path).model.backbone.token_mixer
    baseline = PyramidVisionTransformer if 'sra' in path else SwinTransformer
    defaults = {key: value.default for key, value in inspect.signature(baseline).parameters.items()}
    heads = [4, 8, 16, 32] if 'swin-b' in path else list(defaults['num_heads'])
    assert mixer.num_heads == heads
    if 'sra' in path:
        assert mixer.sr_ratio == list(defaults['sr_ratios'])


def check_groups(model, wrapper, weight_decay):
    """No decay on norms, biases, LayerScale, difference_control and position biases; the recipe's on all weights."""
    decay = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        free = parameter.ndim == 1 or name.endswith('relative_position_bias_table')
        assert decay[id(parameter)] == (0 if free else weight_decay), name
    assert {group['lr'] for group in wrapper.optimizer.param_groups} == {4e-3}


@pytest.mark.parametrize('path', CONFIGS)
def test_recipe(path):
    config = read_config(path)
    _, _, _, _, erase = RECIPES[name_of(path).split('_')[0]]
    size = 384 if '384px' in path else 224
    assert config.optim_wrapper.optimizer.type == 'AdamW'
    assert config.train_cfg.max_epochs == 300
    gpus, images = map(int, re.search(r'_(\d+)xb(\d+)_', path).groups())
    assert gpus * images == 4096 == config.auto_scale_lr.base_batch_size and config.auto_scale_lr.enable is False
    assert images == config.train_dataloader.batch_size
    assert config.train_dataloader.sampler == dict(type='RepeatAugSampler', num_repeats=3)
    assert config.train_dataloader.drop_last
    assert config.model.head.num_classes == 1000 == config.data_preprocessor.num_classes
    assert config.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')

    steps = {step['type']: step for step in config.train_dataloader.dataset.pipeline}
    expected = ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'RandAugment', 'RandomErasing', 'PackInputs']
    if not erase:
        expected.remove('RandomErasing')
    if erase is None:
        expected.remove('RandAugment')
    assert list(steps) == expected
    crop = steps['RandomResizedCrop']
    assert (crop.scale, crop.backend, crop.interpolation) == (size, 'pillow', 'bicubic')
    if erase:
        assert (steps['RandomErasing'].erase_prob, steps['RandomErasing'].mode) == (erase, 'rand')
    if erase is not None:
        # timm's rand-m9-mstd0.5-inc1.
        augment = steps['RandAugment']
        assert (augment.policies, augment.magnitude_level, augment.magnitude_std) == ('timm_increasing', 9, 0.5)
        assert (augment.num_policies, augment.hparams.interpolation) == (2, 'bicubic')
    _, resize, centre, _ = config.test_dataloader.dataset.pipeline
    assert (resize.scale, resize.edge, resize.interpolation) == (int(256 / 224 * size), 'short', 'bicubic')
    assert centre.crop_size == size
    assert config.val_dataloader == config.test_dataloader
    for loader, split in (('train_dataloader', 'train'), ('val_dataloader', 'val')):
        dataset = config[loader].dataset
        assert (dataset.type, dataset.data_root, dataset.split) == (
            'mmatconv.datasets.ImageNet',
            'data/imagenet',
            split,
        )

    ema, clip = config.custom_hooks
    assert (ema.type, ema.momentum, ema.update_buffers) == ('EMAHook', pytest.approx(1 - 0.99995), True)
    assert HOOKS.build(dict(clip)).clip is None
    checkpoint = config.default_hooks.checkpoint
    assert (checkpoint.max_keep_ckpts, checkpoint.save_best, checkpoint.interval) == (3, 'accuracy/top1', 1)


def test_learning_rate_over_the_epochs():
    """Released: 1e-6 to 4e-3 in five epochs, then a cosine to 1e-6."""
    config = read_config('configs/imagenet/attnet-t2_32xb128_in1k.py')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.optim_wrapper.optimizer.lr)
    length = 4
    schedulers = [
        PARAM_SCHEDULERS.build({'end': 300, **schedule}, default_args=dict(optimizer=optimizer, epoch_length=length))
        for schedule in config.param_scheduler
    ]
    rates = []
    for _ in range(300 * length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-6)
    assert rates[5 * length] == pytest.approx(4e-3) == max(rates)
    middle = 5 * length + (300 - 5) * length // 2
    assert rates[middle] == pytest.approx((4e-3 + 1e-6) / 2, rel=1e-2)
    assert 1e-6 <= rates[-1] < 1.1e-6
    assert (
        rates[: 5 * length] == sorted(rates[: 5 * length]) and rates[5 * length :] == sorted(rates[5 * length :])[::-1]
    )


@pytest.mark.parametrize('path', CONFIGS)
def test_docstring_names_the_table_or_the_run(path):
    text = Path(path).read_text()
    assert re.match(r'"""(AttNet|ATConv-(PVT|Swin))-\w+ ?', text)
    assert 'table' in text or 'runs/' in text or 'equation 7' in text


# ---- a run, as a user starts it ------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Two classes as class folders; of the training images the labels of the folder are also in an LMDB."""
    root = tmp_path_factory.mktemp('data') / 'imagenet'
    rng = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 3)):
        for index, name in enumerate(('n01440764', 'n01443537')):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 128, (72, 80, 3), dtype=np.uint8) + np.uint8(120 * index)
                cv2.imwrite(str(folder / f'{name}_{number}.JPEG'), image)
    write_lmdb(root / 'train', root / 'train.lmdb')
    return root


@pytest.fixture(scope='module')
def trained(data_root, tmp_path_factory):
    """The output and the work dir of six epochs of two iterations."""
    work_dir = tmp_path_factory.mktemp('run') / 'work'
    options = [f'{loader}_dataloader.dataset.data_root={data_root}' for loader in ('train', 'val', 'test')]
    options += [f'{loader}_dataloader.dataset.classes=[fish,goldfish]' for loader in ('train', 'val', 'test')]
    options += ['train_dataloader.batch_size=6', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0']
    options += ['train_dataloader.dataset.pipeline.1.scale=64', 'val_dataloader.dataset.pipeline.1.scale=72']
    options += ['val_dataloader.dataset.pipeline.2.crop_size=64', 'val_evaluator.topk=[1]', 'model.head.num_classes=2']
    options += ['data_preprocessor.num_classes=2', 'train_cfg.max_epochs=6', 'train_cfg.val_interval=6']
    options += ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=6', 'randomness.seed=0']
    command = ['tools/dist_train.sh', 'configs/imagenet/attnet-xxs_32xb128_in1k.py', '1', '--work-dir', str(work_dir)]
    environment = {**os.environ, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [*command, '--cfg-options', *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (log,) = work_dir.glob('*/*.log')
    return log.read_text(), work_dir


def test_run_reads_the_lmdb_and_evaluates_both_weights(data_root, trained):
    output, work_dir = trained
    assert f'images are read from lmdb://{data_root}/train.lmdb' in output
    assert f'images are read from {data_root}/val' in output
    assert (work_dir / 'last_checkpoint').read_text() == str(work_dir / 'epoch_6.pth')
    assert [path.name for path in work_dir.glob('best_*.pth')] == ['best_accuracy_top1_epoch_6.pth']
    assert re.search(r'accuracy/top1: [\d.]+ .*accuracy/top1_origin: [\d.]+', output)
    rates = [float(rate) for rate in re.findall(r'Epoch\(train\) .* lr: (\S+)', output)]
    assert len(rates) == 12 and rates[0] == 1e-6 and max(rates) == 4e-3


def test_checkpoint_of_a_run_loads_in_a_detector(trained):
    """MMEngine puts the EMA's weights under 'state_dict'; those are what the detector's backbone has afterwards."""
    _, work_dir = trained
    file = work_dir / 'epoch_6.pth'
    checkpoint = torch.load(file, weights_only=False)
    averaged, last = checkpoint['state_dict'], checkpoint['ema_state_dict']
    assert last['steps'] == 12
    # Twelve steps move a norm's weight from 1 by about the learning rate, and its EMA by 5e-5 of that.
    moved = (last['module.backbone.norm.weight'] - 1).abs().max()
    assert moved > 1e-3
    assert 0 < (averaged['backbone.norm.weight'] - 1).abs().max() < 1e-3 * moved

    config = read_config('configs/mask_rcnn/mask-rcnn_attnet-xxs_fpn_1x_coco.py').model.backbone
    config.init_cfg = dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')
    backbone = MODELS.build(config)
    backbone.init_weights()
    report = load_pretrained(MODELS.build(config), file, 'backbone.')
    # The norms in front of the FPN are the detector's own; the final norm is the classifier's.
    assert all(name.startswith('out_norms.') for name in report.missing)
    assert report.unused == ['norm.weight', 'norm.bias'] and not report.mismatched
    state = backbone.state_dict()
    assert len(report.loaded) == len([name for name in state if not name.startswith('out_norms.')]) > 150
    for name in report.loaded:
        assert torch.equal(state[name], averaged[f'backbone.{name}']), name
    plain = MODELS.build(dict(type=config.type, arch=config.arch))
    assert load_pretrained(plain, file, 'backbone.').missing == []


def test_missing_data_is_said_in_a_sentence(tmp_path, monkeypatch, capfd):
    from mmatconv.engine.cli import report
    from mmatconv.engine.cli.train import train

    monkeypatch.setattr(report, '_catch_signals', lambda: None)
    monkeypatch.chdir(tmp_path)
    assert train(['configs/imagenet/attnet-t2_32xb128_in1k.py']) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("error: data root 'data/imagenet' of train_dataloader.dataset does not exist (looked for ")
    assert errors.count('\n') == 1
    assert 'ImageNet-1K (ILSVRC 2012) is at image-net.org after signing up; unpack it to train/ and val/' in errors
