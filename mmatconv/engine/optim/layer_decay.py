"""Layer-wise decay of the learning rate in detectors and segmentors too."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmatconv.errors import UserError


class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's constructor for any model with a backbone that has ``get_layer_depth``.

    mmpretrain's own asks the model for it, which its classifiers have and the models of mmdet and mmseg do not. There
    the backbone answers, and necks and heads belong to the last layer, which keeps the full rate. In a config::

        optim_wrapper = dict(
            constructor='mmatconv.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0, flat_decay_mult=0.0),
        )

    Raises:
        UserError: Neither the model nor its backbone has ``get_layer_depth``.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **options: Any,
    ) -> None:
        """Add the parameters of a module to the groups, as mmpretrain does."""
        if get_layer_depth is None and not hasattr(module, 'get_layer_depth'):
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                kind = type(module if backbone is None else backbone).__name__
                raise UserError(
                    f'{kind} has no get_layer_depth, which layer-wise learning-rate decay needs; use a backbone of '
                    'mmatconv or mmpretrain, or remove layer_decay_rate and the constructor.'
                )
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix=prefix, get_layer_depth=get_layer_depth, **options)
