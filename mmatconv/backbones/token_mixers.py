"""The token mixers a backbone can be built with, by name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import nn

from mmatconv.backbones.attention_adapters import SpatialReductionAttention, WindowAttention
from mmatconv.errors import UserError
from mmatconv.layers import ATConv
from mmatconv.layers.token_mixers.acmix_reduction import ACmixReduction
from mmatconv.layers.token_mixers.acmix_sliding import ACmixSliding
from mmatconv.layers.token_mixers.acmix_window import ACmixWindow
from mmatconv.layers.token_mixers.atconv_kernels import ATConvKernels
from mmatconv.layers.token_mixers.atconv_step import ATConvStep
from mmatconv.layers.token_mixers.cross_shaped import CrossShapedAttention
from mmatconv.layers.token_mixers.grid_attention import GridAttention
from mmatconv.layers.token_mixers.hydra import HydraAttention
from mmatconv.layers.token_mixers.inline import InLineAttention
from mmatconv.layers.token_mixers.lkca import LKCA
from mmatconv.layers.token_mixers.pooling_attention import PoolingAttention
from mmatconv.layers.token_mixers.rank_aug import RankAugAttention
from mmatconv.layers.token_mixers.static_convs import Conv, DepthwiseConv, ProjectedDepthwiseConv


class TokenMixers:
    """The classes by name, registered as in MMEngine's registries, which need more than torch.

    Attributes:
        module_dict: The classes by name.
    """

    def __init__(self) -> None:
        self.module_dict: dict[str, type[nn.Module]] = {}

    def register_module(
        self, name: str | None = None, force: bool = False, module: type[nn.Module] | None = None
    ) -> type[nn.Module] | Callable[[type[nn.Module]], type[nn.Module]]:
        """Register ``module``, or decorate a class with the result.

        Args:
            name: Default: the name of the class.
            force: Replace a class of the same name. Default: False.
            module: The class. Default: None, the decorated one.

        Raises:
            UserError: There is another class of this name, and ``force`` is not set.
        """
        if module is None:
            return lambda module: self.register_module(name, force, module)
        key = name or module.__name__
        if not force and self.module_dict.get(key, module) is not module:
            raise UserError(f'there is a token mixer {key!r} already; give yours another name, or force=True.')
        self.module_dict[key] = module
        return module


TOKEN_MIXERS = TokenMixers()
for mixer in (
    ACmixReduction,
    ACmixSliding,
    ACmixWindow,
    ATConv,
    ATConvKernels,
    ATConvStep,
    Conv,
    CrossShapedAttention,
    DepthwiseConv,
    GridAttention,
    HydraAttention,
    InLineAttention,
    LKCA,
    PoolingAttention,
    ProjectedDepthwiseConv,
    RankAugAttention,
    SpatialReductionAttention,
    WindowAttention,
):
    TOKEN_MIXERS.register_module(module=mixer)


def build_token_mixer(
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    dim: int,
    stage: int,
    stages: int,
    block: int,
    defaults: Mapping[str, Any],
) -> nn.Module:
    """Build the token mixer of one block.

    A mixer is a class ``Mixer(dim, **options)`` whose ``forward`` maps (B, C, H, W) to (B, C, H, W). Register your
    own with ``@TOKEN_MIXERS.register_module()``, or give the class or its dotted path as ``type``.

    Args:
        config: ``dict(type=..., option=value, ...)``, where a list or tuple as value has one entry for each stage; or
            a list with such a dict for each stage.
        dim: Channels C of the stage.
        stage: Index of the stage.
        stages: Number of stages.
        block: Index of the block in its stage, passed on to mixers with an option of this name.
        defaults: Options passed on to mixers that have them, unless ``config`` gives them.

    Returns:
        The module.

    Raises:
        UserError: An unknown type or option (the message lists what exists), a list of another length, or a value that
            the mixer refuses.
    """
    config = _of_stage('token_mixer', config, stage, stages)
    if not isinstance(config, Mapping) or 'type' not in config:
        raise UserError(f"token_mixer must be a dict with the entry 'type', but is {config!r}.")
    options = {key: _of_stage(key, value, stage, stages) for key, value in config.items() if key != 'type'}
    mixer = _find(config['type'])
    known = [name for name in inspect.signature(mixer).parameters if name not in ('dim', 'block')]
    for key in options:
        if key not in known:
            raise UserError(
                f'{mixer.__name__} has no option {key!r}; it has {", ".join(known) or "none"}, and dim from the stage.'
            )
    accepted = {key: value for key, value in defaults.items() if key in known}
    if 'block' in inspect.signature(mixer).parameters:
        accepted['block'] = block
    try:
        return mixer(dim, **{**accepted, **options})
    except ValueError as error:
        raise UserError(f'{mixer.__name__} in stage {stage} of token_mixer: {error}') from error


def _of_stage(name: str, value: Any, stage: int, stages: int) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) != stages:
        raise UserError(f'{name} is a list of {len(value)}, but there are {stages} stages; give one entry each.')
    return value[stage]


def _find(kind: Any) -> type[nn.Module]:
    if isinstance(kind, type):
        return kind
    found = TOKEN_MIXERS.module_dict.get(kind) or _from_dotted_path(str(kind))
    if found is None:
        raise UserError(
            f'there is no token mixer {kind!r}; choose from {", ".join(sorted(TOKEN_MIXERS.module_dict))}, or register '
            'your own in mmatconv.backbones.TOKEN_MIXERS.'
        )
    return found


def _from_dotted_path(path: str) -> Any:
    """What ``package.module.Name`` names; None where there is no such thing."""
    module, _, name = path.rpartition('.')
    try:
        return getattr(import_module(module), name, None) if module else None
    except ModuleNotFoundError as error:
        # What the module itself imports is not the same as the module.
        if not f'{module}.'.startswith(f'{error.name}.'):
            raise
        return None
