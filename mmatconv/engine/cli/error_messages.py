"""One sentence for an error that the user can repair, whichever package raised it."""

import inspect
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from mmengine import registry

from mmatconv.engine.runner.checkpoint_files import DEVICE_FULL
from mmatconv.errors import UserError

FILE_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# What OpenMMLab says of the user's data and config: the class of the error, how it begins, and what to do.
COMPLAINTS = (
    (AssertionError, 'failed to load image', 'the file is not an image or is damaged'),
    (Exception, 'Cannot find valid image after', 'too many files of the data set are damaged'),
    (
        AssertionError,
        'If the mean has 3 values',
        'images must have three channels, or model.data_preprocessor one mean for each channel',
    ),
    (
        AssertionError,
        'The `num_classes`',
        'num_classes of the heads and metainfo.classes of the data sets must go together',
    ),
    (
        AssertionError,
        'LabelSmoothLoss requires output and target to be same shape',
        'data_preprocessor.num_classes and model.head.num_classes must be equal',
    ),
    (
        ValueError,
        'Top-5 accuracy is unavailable',
        "set val_evaluator.topk and test_evaluator.topk to '(1,)'",
    ),
    (
        ValueError,
        'end should be larger than begin',
        'an entry of param_scheduler begins after the end of the training; shorten the warm-up before it, or train '
        'longer than it takes',
    ),
    (
        RuntimeError,
        'Found 0 files in subfolders of',
        "name a folder with a folder of images for each class, or set the data set's with_label=False or extensions",
    ),
    (
        KeyError,
        '`cfg` or `default_args` must contain the key "type"',
        'this part of the config has no type; name a complete config, not one that others inherit from',
    ),
)
SIZE_MISMATCH = re.compile(
    r'size mismatch for (\S+): copying a param with shape (?:torch\.Size\()?\[([\d, ]*)\]\)? from checkpoint, '
    r'the shape in current model is (?:torch\.Size\()?\[([\d, ]*)\]'
)
# Of gloo, which raises a RuntimeError, and of NCCL and the store, which raise a DistError.
NO_ANSWER = re.compile(r'[Tt]imed out waiting (\d+)ms')
LOST_CONNECTION = re.compile(
    r'(Connection \w+ by peer(?: \[[^\]]+\](?::\d+)?)?|Broken pipe|No route to host|timed out)'
)
# NCCL's words.
DUPLICATE_GPU = 'Duplicate GPU detected'
UNKNOWN_OPTION = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def error_message(error: BaseException, config: Mapping[str, Any] = MappingProxyType({})) -> str | None:
    """One sentence for an error the user can mend; None for anything else, which keeps its traceback.

    Args:
        error: What was raised.
        config: The run's config, whose options an error may be about. Default: none.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return _plain(cause)
        cause = cause.__cause__
    if isinstance(error, OSError) and error.errno in DEVICE_FULL:
        return f'{DEVICE_FULL[error.errno]}: {error.filename or "a file of this run"} could not be written'
    if isinstance(error, FILE_ERRORS):
        if error.filename is not None:
            return f"{error.strerror}: '{error.filename}'"
        return _plain(error)
    text = _plain(error)
    for kind, start, advice in COMPLAINTS:
        if isinstance(error, kind) and text.startswith(start):
            return f'{text.split(". Please check")[0].removesuffix(" None").rstrip(".")}; {advice}'
    if isinstance(error, KeyError) and re.search(r'is not in the \S+ registry', text):
        return f'{text.split(". Please check")[0]}; check the type in the config'
    if DUPLICATE_GPU in text:
        return 'two processes of this machine were given the same GPU; start at most one process for each GPU'
    if reason := lost_connection(error):
        return f'{reason}; see its output on its machine, then start all processes again; --resume continues a training'
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return 'the GPU ran out of memory; lower train_dataloader.batch_size or the image scale, or add --amp'
    if isinstance(error, RuntimeError) and (mismatches := SIZE_MISMATCH.findall(text)):
        name, found, expected = mismatches[0]
        return (
            f'the checkpoint belongs to another model: {name.removeprefix("module.")} is ({found}) there and '
            f'({expected}) in this model ({len(mismatches)} tensors differ in shape); check the config'
        )
    if isinstance(error, TypeError):
        return _unknown_option(error, config)
    return None


def lost_connection(error: BaseException) -> str | None:
    """What this process knows of another one that has gone; None for errors of its own."""
    text = str(error)
    if (
        DUPLICATE_GPU in text
        or not isinstance(error, RuntimeError)
        or not (type(error).__name__.startswith('Dist') or 'gloo' in text.lower())
    ):
        return None
    if waited := NO_ANSWER.search(text):
        return f'another process did not answer within {int(waited[1]) / 1000:g} s (env_cfg.dist_cfg.timeout)'
    if isinstance(error, dist.DistError if hasattr(dist, 'DistError') else ()) or LOST_CONNECTION.search(text):
        found = LOST_CONNECTION.search(text)
        return f'the connection to another process is lost ({found[1] if found else _plain(error).split(". ")[0]})'
    return None


def _unknown_option(error: TypeError, config: Mapping[str, Any]) -> str | None:
    """Says which options there are, where the unknown one was given in `config`; None where a call in code is wrong."""
    found = UNKNOWN_OPTION.search(str(error))
    if found is None:
        return None
    callee, option = found.groups()
    for part in _parts(dict(config.items())):
        if option not in part:
            continue
        for cls in _classes_named(part.get('type'), config.get('default_scope')):
            known = _options_of(cls)
            if option not in known and callee in [parent.__name__ for parent in cls.__mro__]:
                return f'{cls.__name__} has no option {option!r}; it has {", ".join(known)}'
    return None


def _parts(node: Any) -> Iterator[dict]:
    """Every dict of a config."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        yield from _parts(child)


def _classes_named(kind: Any, scope: str | None) -> Iterator[type]:
    """The classes that a ``type`` of a config stands for, one at most of each registry."""
    if inspect.isclass(kind):
        yield kind
    if isinstance(kind, str):
        name = kind if '.' in kind or scope is None else f'{scope}.{kind}'
        for each in vars(registry).values():
            if isinstance(each, registry.Registry) and inspect.isclass(cls := each.get(name)):
                yield cls


def _options_of(cls: type) -> list[str]:
    """The names `cls` takes, those it hands on to its parents by ``**options`` included."""
    names: dict[str, None] = {}
    for parent in cls.__mro__:
        if '__init__' not in vars(parent):
            continue
        parameters = list(inspect.signature(parent.__init__).parameters.values())[1:]
        names |= {p.name: None for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def _plain(error: BaseException) -> str:
    """The message alone: without the traceback a DataLoader worker adds, and without MMEngine's 'class X in Y: '."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    name = re.escape(type(error).__name__)
    if 'Original Traceback' in text:
        text = re.split(rf'^(?:[\w.]+\.)?{name}: ', text, flags=re.MULTILINE)[-1]
    while match := re.match(r'class `[^`]+` in \S+: ', text):
        text = text[match.end() :]
    return ' '.join(text.split())
