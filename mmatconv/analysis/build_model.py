"""The model of an OpenMMLab config, for counting, timing and studies."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmatconv.checkpoint.loading import state_dict_of
from mmatconv.errors import UserError
from mmatconv.openmmlab.checkpoint_loader import use_safe_loader


def build_model(config: Config, device: str) -> nn.Module:
    """The model of a config without its pretrained weights, SyncBatchNorm as BatchNorm.

    Args:
        config: With ``model`` and ``default_scope``.
        device: 'cpu', or 'meta' for shapes without numbers.

    Raises:
        UserError: There is no ``model``, or the package of ``default_scope`` is not installed.
    """
    # Imports mmcv, which counting and timing of backbones alone do without.
    from mmatconv.engine.cli.options import register_modules

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
            # Some models read numbers from tensors while they are built, for example drop path rates.
            model = MODELS.build(deepcopy(config.model)).to(device)
    return revert_sync_batchnorm(model)


def load_trained_weights(model: nn.Module, checkpoint: str) -> dict[str, Any]:
    """Load a checkpoint that must fit a model, which goes to the GPU where there is one, in evaluation mode.

    Args:
        model: On the CPU.
        checkpoint: Path or URL.

    Returns:
        All that the checkpoint holds.

    Raises:
        UserError: The checkpoint cannot be read or is of another model.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    from mmatconv.engine.checks import preflight
    from mmatconv.engine.hooks.check_checkpoint import check_state

    preflight.check_checkpoint_file(checkpoint)
    use_safe_loader()
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    state = state_dict_of(content)
    check_state(model, state, checkpoint, exact=True)
    model.load_state_dict(state, strict=False)
    model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()
    return content


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what OpenMMLab prints and warns of while models are built."""
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
