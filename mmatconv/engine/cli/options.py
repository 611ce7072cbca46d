"""What the command line's options change in a config."""

import importlib
import os
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmatconv.engine.checks import preflight
from mmatconv.engine.launch.messages import print_once
from mmatconv.engine.runner.checkpoint_files import newest_usable, read_meta
from mmatconv.engine.runner.runner import no_gpu
from mmatconv.errors import UserError

DISTRIBUTIONS = {'mmdet': 'onedl-mmdetection', 'mmseg': 'onedl-mmsegmentation', 'mmpretrain': 'onedl-mmpretrain'}
VISUALIZERS = {'mmdet': 'DetLocalVisualizer', 'mmseg': 'SegLocalVisualizer', 'mmpretrain': 'UniversalVisualizer'}

# Of masks and label maps in pictures; the packages' 0.8 hides the image.
MASK_OPACITY = 0.4


def set_work_dir(config: Config, given: str | None, config_name: str) -> None:
    """Command line before config before ``./work_dirs/<name of the config>``."""
    if given is not None:
        config.work_dir = given
    elif config.get('work_dir') is None:
        config.work_dir = os.path.join('.', 'work_dirs', Path(config_name).stem)


def set_amp(config: Config, asked: bool) -> None:
    """Mixed precision: fp16 with a loss scale on a GPU, bf16 without one.

    Raises:
        UserError: the config's optimizer wrapper cannot be replaced by --amp.
    """
    wrapper = config.get('optim_wrapper') or {}
    kind = wrapper.get('type', 'OptimWrapper')
    kind = (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]
    if asked and kind not in ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper'):
        raise UserError(f"--amp replaces an optim_wrapper of type OptimWrapper, but the config's is {kind}")
    if no_gpu() and (kind == 'AmpOptimWrapper' or (asked and kind == 'OptimWrapper')):
        print_once('no GPU is visible: mixed precision is bfloat16 on the CPU, without a loss scale')
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        wrapper['type'] = 'mmatconv.engine.optim.amp.BFloat16OptimWrapper'
    elif asked and kind == 'OptimWrapper':
        wrapper['type'] = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


def set_auto_scale_lr(config: Config) -> None:
    """Scales the learning rate with the batch size.

    Raises:
        UserError: the config does not say which batch size its learning rate is for.
    """
    scale = config.get('auto_scale_lr')
    if not isinstance(scale, dict) or not scale.get('base_batch_size'):
        raise UserError(
            f"--auto-scale-lr: config '{config.filename}' does not say which batch size its learning rate is for; add "
            '--cfg-options auto_scale_lr.base_batch_size=16 with the size that is right'
        )
    config.auto_scale_lr.enable = True


def set_resume(config: Config, given: str) -> None:
    """Resumes from a checkpoint, or with 'auto' from the newest of the work dir if there is one."""
    if given == 'auto':
        found = newest_usable(config.work_dir)
        if found is None:
            config.resume = False
            print_once(f'--resume: {config.work_dir} holds no checkpoint yet, training starts from the beginning')
            return
        path, meta = found
    else:
        preflight.check_checkpoint_file(given)
        path, meta = given, read_meta(Path(given).expanduser()) if preflight.is_local(given) else {}
    config.resume, config.load_from = True, str(path)
    _set_seed(config, meta.get('seed'))


def _set_seed(config: Config, seed: int | None) -> None:
    """The seed the interrupted training had, before samplers are built with another."""
    randomness = dict(config.get('randomness') or {})
    if seed is None or randomness.get('seed') == seed:
        return
    if randomness.get('seed') is not None:
        print_once(f'warning: randomness.seed is {randomness["seed"]}; continuing with {seed}, as the training began')
    config.randomness = dict(randomness, seed=seed)


def set_loader_defaults(config: Config) -> None:
    """mmpretrain's models take stacked images, which its own tools see to."""
    if config.get('default_scope') != 'mmpretrain':
        return
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(name) is not None:
            config[name].setdefault('collate_fn', dict(type='default_collate'))


def set_visualizer(config: Config) -> None:
    """The package's own visualizer, where the config has none.

    Raises:
        UserError: the package's visualizer is not known.
    """
    scope = config.get('default_scope')
    if config.get('visualizer') is None:
        if scope not in VISUALIZERS:
            raise UserError(f"--show-dir: config '{config.filename}' of default_scope {scope!r} has no visualizer")
        config.visualizer = dict(type=VISUALIZERS[scope], name='visualizer')
    kind = config.visualizer.type
    name = kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
    if name in ('DetLocalVisualizer', 'SegLocalVisualizer'):
        config.visualizer.setdefault('alpha', MASK_OPACITY)
    # Pictures go to the folder named by the user alone, not a second time to the log.
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]


def set_tta(config: Config) -> None:
    """Test-time augmentation as the config says; without a word in it, the package's horizontal flip.

    Raises:
        UserError: the config has none and the package has no default, or the model predicts instance masks.
    """
    scope = config.get('default_scope')
    defaults = {
        'mmdet': dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
        'mmpretrain': dict(type='AverageClsScoreTTA'),
    }
    if config.get('tta_model') is None:
        if scope not in defaults:
            raise UserError(f"--tta: config '{config.filename}' has no tta_model; add one, and a tta_pipeline")
        config.tta_model = defaults[scope]
    leaves = [leaf for _, leaf in preflight.leaf_datasets(config.test_dataloader.dataset, '')]
    if config.get('tta_pipeline') is None:
        if scope not in defaults:
            raise UserError(f"--tta: config '{config.filename}' has no tta_pipeline; add one")
        config.tta_pipeline = _flip_pipeline(leaves[0]['pipeline'], scope)
    heads = config.model.get('roi_head') or {}
    masks = config.model.get('mask_head') or (heads.get('mask_head') if isinstance(heads, dict) else None)
    kind = config.tta_model.type
    if kind in ('DetTTAModel', 'mmdet.DetTTAModel') and masks:
        raise UserError(f'--tta: {kind} merges boxes, not the instance masks this model predicts; leave --tta out')
    for leaf in leaves:
        leaf['pipeline'] = config.tta_pipeline
    config.model = ConfigDict(**config.tta_model, module=config.model)


def _flip_pipeline(pipeline: list[dict], scope: str) -> list[dict]:
    steps = deepcopy(list(pipeline))
    pack = steps.pop()
    if scope == 'mmdet':
        # Annotations would be flipped too; metrics read the annotation file.
        steps = [step for step in steps if step['type'] not in ('LoadAnnotations', 'mmdet.LoadAnnotations')]
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        pack = dict(type='PackDetInputs', meta_keys=keys)
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    return [*steps, dict(type='TestTimeAug', transforms=[flips, [pack]])]


def register_modules(config: Config) -> None:
    """Imports the package the config is written for, so that all its types are known.

    Raises:
        UserError: it is not installed.
    """
    scope = config.get('default_scope') or 'mmengine'
    if scope == 'mmengine':
        return
    try:
        utils = importlib.import_module(f'{scope}.utils')
    except ModuleNotFoundError as error:
        package = DISTRIBUTIONS.get(scope, scope)
        raise UserError(
            f"config '{config.filename}' needs {scope}, and importing it found no module '{error.name}'; install "
            f'{package if error.name == scope else error.name}'
        ) from error
    if hasattr(utils, 'register_all_modules'):
        utils.register_all_modules(init_default_scope=False)
