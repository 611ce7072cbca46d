"""What can be checked about a config in a second, before data sets are read and models built.

Every check raises UserError with one sentence: the value, what was expected, what to do.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmatconv.engine.checks.class_names import check_heads, class_names
from mmatconv.engine.checks.coco_json import check_coco
from mmatconv.engine.checks.output_paths import check_work_dir
from mmatconv.errors import UserError

TRAIN_PARTS = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
TEST_PARTS = ('model', 'test_dataloader', 'test_cfg', 'test_evaluator')
# mmpretrain fetches these itself, so their folder need not exist.
DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_training(config: Config) -> None:
    """Everything tools/train.py needs to find; `config.load_from` is the checkpoint to start or resume from."""
    _check_parts(config, TRAIN_PARTS, 'trained')
    loaders = ['train_dataloader']
    if config.get('val_dataloader') is not None and config.get('val_cfg') is not None:
        loaders.append('val_dataloader')
    for loader in loaders:
        check_dataloader(config, loader)
    check_evaluator(config, 'val_evaluator')
    check_annotation_files(config, loaders, 'val_evaluator')
    for where, dataset in leaf_datasets(config.train_dataloader.get('dataset'), 'train_dataloader.dataset'):
        if classes := class_names(dataset, config.get('default_scope')):
            check_heads(config.model, classes, where)
    check_pretrained(config)
    if config.get('load_from') is not None:
        check_checkpoint_file(config.load_from)
    check_work_dir(config.work_dir)


def check_testing(config: Config) -> None:
    """Everything tools/test.py needs to find; `config.load_from` is the checkpoint to evaluate."""
    _check_parts(config, TEST_PARTS, 'tested')
    check_checkpoint_file(config.load_from)
    check_dataloader(config, 'test_dataloader')
    check_evaluator(config, 'test_evaluator')
    check_annotation_files(config, ['test_dataloader'], 'test_evaluator')
    check_work_dir(config.work_dir)


def check_dataloader(config: Config, loader: str) -> None:
    """Checks the folders and annotation files of a data loader, through any wrappers around the data sets.

    Raises:
        UserError: one is missing, or an annotation file is cut off.
    """
    hint = config.get('data_hint')
    for where, dataset in leaf_datasets(config[loader].get('dataset'), f'{loader}.dataset'):
        _check_dataset(where, dataset, f'; {hint}' if hint else '')


def leaf_datasets(dataset: Any, where: str) -> Iterator[tuple[str, dict]]:
    """The data sets that read files, with their place in the config, inside RepeatDataset, ConcatDataset and others."""
    if not isinstance(dataset, dict):
        return
    if isinstance(dataset.get('dataset'), dict):
        yield from leaf_datasets(dataset['dataset'], f'{where}.dataset')
    elif isinstance(dataset.get('datasets'), list | tuple):
        for index, part in enumerate(dataset['datasets']):
            yield from leaf_datasets(part, f'{where}.datasets.{index}')
    else:
        yield where, dataset


def image_folders(dataset: dict) -> dict[str, str]:
    """The folders of a leaf data set by their key under ``data_prefix``, joined to ``data_root``."""
    prefix = dataset.get('data_prefix')
    if not prefix and _type_name(dataset).startswith('ImageNet') and dataset.get('split'):
        prefix = dataset['split']
    folders = {'': prefix} if isinstance(prefix, str) else dict(prefix or {})
    return {key: _join(dataset, value) for key, value in folders.items() if isinstance(value, str)}


def check_evaluator(config: Config, name: str) -> None:
    """Checks the annotation files that metrics read themselves.

    Raises:
        UserError: one is missing or cut off.
    """
    evaluator = config.get(name)
    metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    for index, metric in enumerate(metrics):
        file = metric.get('ann_file') if isinstance(metric, dict) else None
        if isinstance(file, str) and is_local(file):
            option = f'{name}.{index}.ann_file' if len(metrics) > 1 else f'{name}.ann_file'
            _check_annotations(file, name, option, '')


def check_annotation_files(config: Config, loaders: list[str], evaluator: str) -> None:
    """Checks every entry of the COCO files, each file once and in one process of a machine.

    Raises:
        UserError: one is broken.
    """
    if os.environ.get('LOCAL_RANK', '0') != '0':
        return
    wanted: dict[str, dict] = {}
    for loader in loaders:
        for where, dataset in leaf_datasets(config[loader].get('dataset'), f'{loader}.dataset'):
            file = dataset.get('ann_file')
            if _type_name(dataset) != 'CocoDataset' or not _reads_local_files(dataset) or not isinstance(file, str):
                continue
            options = wanted.setdefault(_join(dataset, file), dict(where=where, labels=False, masks=False))
            steps = [step for step in dataset.get('pipeline') or () if isinstance(step, dict)]
            loading = [step for step in steps if _type_name(step) == 'LoadAnnotations']
            options['labels'] |= loader != 'test_dataloader'
            options['masks'] |= loader == 'train_dataloader' and any(step.get('with_mask') for step in loading)
            if classes := class_names(dataset, config.get('default_scope')):
                options['classes'] = classes
    metrics = config.get(evaluator)
    for metric in metrics if isinstance(metrics, list | tuple) else [metrics]:
        if isinstance(metric, dict) and _type_name(metric) == 'CocoMetric' and isinstance(metric.get('ann_file'), str):
            options = wanted.setdefault(metric['ann_file'], dict(where=evaluator))
            options['labels'] = not metric.get('format_only')
    for file, options in wanted.items():
        if is_local(file):
            check_coco(os.path.expanduser(file), **options)


def check_pretrained(config: Config) -> None:
    """Checks every local file named by ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Raises:
        UserError: one is missing; ``pretrained_hint`` of the config says where to get it.
    """
    hint = config.get('pretrained_hint')
    for where, init_cfg in _init_cfgs(config.get('model'), 'model'):
        file = init_cfg.get('checkpoint')
        if not isinstance(file, str) or not is_local(file) or Path(file).expanduser().is_file():
            continue
        raise UserError(
            f"pretrained weights '{file}' ({where}) do not exist"
            + (f'; {hint}' if hint else '; put the file there or name another')
            + f', or train without them: --cfg-options {where}=None'
        )


def check_checkpoint_file(file: str) -> None:
    """Checks that a local checkpoint is there and whole, as far as its first and last bytes tell.

    Raises:
        UserError: it is not.
    """
    if not isinstance(file, str) or not is_local(file):
        return
    path = Path(file).expanduser()
    if path.is_dir():
        raise UserError(f"checkpoint '{file}' is a folder; name a file in it, for example one ending in .pth")
    if not path.is_file():
        raise UserError(f"checkpoint '{file}' does not exist; name the file tools/train.py wrote to its work dir")
    with path.open('rb') as stream:
        start = stream.read(2)
    # A zip archive, which torch.save writes, has its table of contents at the end: what was cut off has none.
    if not start or (start == b'PK' and not zipfile.is_zipfile(path)):
        raise UserError(f"checkpoint '{file}' is cut off ({path.stat().st_size} bytes); copy or download it again")


def _check_parts(config: Config, parts: tuple[str, ...], done: str) -> None:
    missing = [part for part in parts if config.get(part) is None]
    if missing:
        raise UserError(f"config '{config.filename}' cannot be {done}: it has no {', no '.join(missing)}")


def _check_dataset(where: str, dataset: dict, hint: str) -> None:
    if _type_name(dataset) in DOWNLOADED or not _reads_local_files(dataset):
        return
    root = dataset.get('data_root')
    if isinstance(root, str) and root and is_local(root) and not _exists(root):
        raise UserError(
            f"data root '{root}' of {where} does not exist (looked for {os.path.abspath(root)}); put or link the data "
            f'there, or name another folder with --cfg-options {where}.data_root=FOLDER{hint}'
        )
    annotations = dataset.get('ann_file')
    if isinstance(annotations, str) and annotations:
        _check_annotations(_join(dataset, annotations), where, f'{where}.ann_file', hint)
    for key, folder in image_folders(dataset).items():
        option = f'{where}.data_prefix.{key}' if key else f'{where}.data_prefix'
        # mmatconv's ImageNet reads the LMDB in place of the folder.
        if _type_name(dataset) == 'ImageNet' and _exists(f'{folder.rstrip("/")}.lmdb'):
            continue
        if is_local(folder) and not _exists(folder):
            raise UserError(
                f"folder '{folder}' of {where} does not exist; put or link the data there, or name another with "
                f'--cfg-options {option}=FOLDER{hint}'
            )
        # MMEngine's samplers wait for ever for the first image of an empty data set.
        if is_local(folder) and os.path.isdir(folder) and not any(os.scandir(folder)):
            raise UserError(f"folder '{folder}' of {where} is empty; put or link the data there{hint}")


def _check_annotations(file: str, where: str, option: str, hint: str) -> None:
    if not is_local(file):
        return
    if not _exists(file):
        raise UserError(
            f"annotation file '{file}' of {where} does not exist; put it there, or name another with "
            f'--cfg-options {option}=FILE{hint}'
        )
    if file.endswith('.json') and not _closes(Path(file).expanduser()):
        raise UserError(
            f"annotation file '{file}' of {where} is cut off: it does not end in '}}' or ']'; fetch it again"
        )


def _closes(path: Path) -> bool:
    """Whether a json file ends as one, without reading the half gigabyte it may hold."""
    if path.is_dir():
        return True
    with path.open('rb') as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 64))
        return stream.read().rstrip().endswith((b'}', b']'))


def _init_cfgs(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """All Pretrained initialisations below `node`, with the option that switches each off."""
    if isinstance(node, list | tuple):
        for index, part in enumerate(node):
            yield from _init_cfgs(part, f'{where}.{index}')
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == 'init_cfg':
                for part in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(part, dict) and _type_name(part) in ('Pretrained', 'PretrainedInit'):
                        yield f'{where}.init_cfg', part
            else:
                yield from _init_cfgs(value, f'{where}.{key}')


def _type_name(node: dict) -> str:
    kind = node.get('type', '')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


def _reads_local_files(dataset: dict) -> bool:
    steps = [dataset, *(step for step in dataset.get('pipeline') or () if isinstance(step, dict))]
    backends = [(step.get('backend_args') or {}).get('backend', 'local') for step in steps]
    return all(backend == 'local' for backend in backends)


def _join(dataset: dict, path: str) -> str:
    root = dataset.get('data_root')
    return os.path.join(root, path) if isinstance(root, str) and root else path


def is_local(path: str) -> bool:
    """Whether a path is of this machine's file system and no address."""
    return not re.match(r'([\w.+-]+:)?[\w.+-]+://', path)


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))
