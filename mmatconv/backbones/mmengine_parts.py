"""What a backbone takes of MMEngine, and stand-ins for where MMEngine is not installed."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from mmatconv.errors import UserError

# Asked, not tried: a broken MMEngine is an error, not a reason to do without.
if find_spec('mmengine') is not None:
    from mmengine.model import BaseModule
    from mmengine.registry import MODELS
else:
    MODELS = None

    class BaseModule(nn.Module):
        """``init_cfg`` and ``init_weights`` of MMEngine's class, without its initialisers.

        Args:
            init_cfg: See :class:`mmatconv.backbones.base.Backbone`. Default: None.
        """

        def __init__(self, init_cfg: Any = None) -> None:
            super().__init__()
            self.init_cfg = init_cfg
            self.is_init = False

        def init_weights(self) -> None:
            """Mark the module as initialised.

            Raises:
                UserError: ``init_cfg`` names an initialiser of MMEngine.
            """
            if self.init_cfg:
                raise UserError(
                    f'init_cfg {self.init_cfg!r} needs MMEngine; without it only dict(type="Pretrained") is known: '
                    "install it with 'pip install mmatconv[onedl]'."
                )
            self.is_init = True


def register_backbone(backbone: type[nn.Module]) -> type[nn.Module]:
    """Register a class in MMEngine's root registry, where mmdet, mmseg and mmpretrain find it; a decorator."""
    return backbone if MODELS is None else MODELS.register_module(module=backbone)
