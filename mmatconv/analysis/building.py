"""Models of OpenMMLab configs, made to be counted."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from copy import deepcopy

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmatconv.analysis.complexity import Complexity, count, counting_device
from mmatconv.analysis.forms import default_size, prepare
from mmatconv.analysis.paper_order import paper_order
from mmatconv.engine.cli.options import register_modules
from mmatconv.errors import UserError


def build(config: Config, device: str) -> nn.Module:
    """The model of a config without its pretrained weights, SyncBatchNorm as BatchNorm.

    Args:
        config: With ``model`` and ``default_scope``.
        device: 'cpu', or 'meta' for shapes without numbers.

    Raises:
        UserError: There is no ``model``, or the package of ``default_scope`` is not installed.
    """
    if config.get('model') is None:
        raise UserError(f"config '{config.filename}' has no model to count.")
    register_modules(config)
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        try:
            with torch.device(device):
                model = MODELS.build(deepcopy(config.model))
        except (NotImplementedError, RuntimeError):
            if device == 'cpu':
                raise
            # Some models read numbers from tensors while they are made, for example rates of stochastic depth.
            model = MODELS.build(deepcopy(config.model)).to(device)
    return revert_sync_batchnorm(model)


def count_config(
    config: Config, size: tuple[int, int] | None = None, in_paper_order: bool = False
) -> tuple[nn.Module, tuple[int, int], Complexity]:
    """Count the model of a config on one image.

    Args:
        config: Of a detector, a segmentor or a classifier.
        size: Height and width. Default: :data:`mmatconv.analysis.forms.DEFAULT_SIZES` has it.
        in_paper_order: Count ATConv in the order of the paper, see :func:`paper_order`. Default: False.

    Returns:
        The model, the size, the count.

    Raises:
        UserError: The config has no model, or one that is no detector, segmentor or classifier.
    """
    try:
        return _count(build(config, counting_device()), size, in_paper_order)
    except (NotImplementedError, RuntimeError, TypeError):
        # The model reads numbers while it runs; a second failure is the model's own.
        return _count(build(config, 'cpu'), size, in_paper_order)


def _count(
    model: nn.Module, size: tuple[int, int] | None, in_paper_order: bool
) -> tuple[nn.Module, tuple[int, int], Complexity]:
    size = size or default_size(model)
    prepare(model, size)
    with paper_order(model) if in_paper_order else nullcontext():
        return model, size, count(model, (1, 3, *size))


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what OpenMMLab prints and warns of while models are made, which is not about counting."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
