"""Exact folds for inference: constants that follow or precede a linear layer go into its weights."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmatconv.deploy.folded_atconv import FoldedATConv
from mmatconv.errors import UserError
from mmatconv.layers import MLP, ATConv, Block, ConvBN, ConvGLU, LayerNorm2d, LayerScale, PatchMerging, RMSNorm2d
from mmatconv.layers.plain import is_plain
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.atconv_step import ATConvStep
from mmatconv.layers.token_mixers.hydra import HydraAttention
from mmatconv.layers.token_mixers.inline import InLineAttention
from mmatconv.layers.token_mixers.rank_aug import RankAugAttention
from mmatconv.layers.token_mixers.static_convs import Conv, DepthwiseConv

# The only layers of a mixer that read its input, if they work on each pixel or on means over pixels. A convolution
# of the map itself is not among them: its zero padding is not the shift that the norm would have added there.
INPUT_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    ATConv: ('kernel_proj', 'x_proj'),
    ATConvStep: ('kernel_proj', 'x_proj'),
    HydraAttention: ('qkv',),
    RankAugAttention: ('qkvo',),
    ConvGLU: ('fc1',),
    MLP: ('fc1',),
}
# The last layer of a mixer; '' is the mixer itself.
OUTPUT_LAYER: dict[type[nn.Module], str] = {
    ATConv: 'proj',
    ATConvStep: 'proj',
    HydraAttention: 'proj',
    InLineAttention: 'proj',
    RankAugAttention: 'proj',
    Conv: '',
    DepthwiseConv: '',
    ConvGLU: 'fc2',
    MLP: 'fc2',
}
# Only plain layers are folded: a subclass, a hook or a parametrisation may make another function of them.
CONVOLUTIONS = (nn.Conv2d, PointwiseConv, Conv, DepthwiseConv)


@dataclass
class FoldReport:
    """How many of each were folded.

    Attributes:
        batch_norms: BatchNorms, into the convolution before them.
        layer_norms: Gains and shifts of LayerNorms, into the layers that read them.
        layer_scales: LayerScales, into the last layer of their branch.
        rms_norms: Gains of RMSNorms, into the layer behind them.
        modulations: Differential kernel modulations, into the kernel generator.
        kept: LayerNorms and LayerScales of blocks that stay, since no such layer is next to them.
    """

    batch_norms: int = 0
    layer_norms: int = 0
    layer_scales: int = 0
    rms_norms: int = 0
    modulations: int = 0
    kept: int = 0

    @property
    def folded(self) -> int:
        """All of them but those kept."""
        return sum(asdict(self).values()) - self.kept

    def summary(self) -> str:
        """One line for a log."""
        text = (
            f'folded {self.batch_norms} BatchNorm, {self.layer_norms} LayerNorm, {self.layer_scales} LayerScale, '
            f'{self.rms_norms} RMSNorm gain, {self.modulations} kernel modulation'
        )
        return f'{text}; kept {self.kept} LayerNorm and LayerScale beside other layers' if self.kept else text


def fold(model: nn.Module, inplace: bool = False) -> nn.Module:
    """A model that computes the same with fewer operations, for inference only.

    Equal up to rounding (1e-12 of the largest value in float64, 1e-5 in float32), since all of it is linear:

    - BatchNorm of the stem and the downsampling layers goes into the convolution before it;
    - gain and shift of a block's LayerNorms, and of Swin's patch merging, go into the layers that read them
      (``kernel_proj`` and ``x_proj``, ``fc1``, ``reduction``); the normalisation itself stays;
    - LayerScale goes into the last layer of its branch (``proj``, ``fc2``);
    - the gain of RMSNorm goes into the columns of ``fc2``;
    - differential kernel modulation goes into ``kernel_gen``, see :class:`FoldedATConv`.

    Left as they are: norms of the outputs and of patch embeddings, which nothing linear follows in the same module,
    and whatever else a detector, segmentor or classifier holds around the backbone. Blocks with other token mixers
    keep what cannot be folded exactly. The parameters have other names and shapes afterwards: load a checkpoint
    first, then fold.

    Args:
        model: A backbone, or any module that holds one or holds an ATConv, in evaluation mode.
        inplace: Change ``model`` itself instead of a copy. Default: False.

    Returns:
        The folded model with a :class:`FoldReport` as its attribute ``fold_report``; ``model`` itself with
        ``inplace`` unless it is a bare ConvBN or ATConv.

    Raises:
        UserError: A model in training mode, folded already, or with nothing to fold.
    """
    name = type(model).__name__
    if any(hasattr(module, 'fold_report') for module in model.modules()):
        raise UserError(f'{name} is folded already; fold a model once.')
    if any(module.training for module in model.modules()):
        raise UserError(f'{name} is in training mode, where BatchNorm cannot be folded; call its eval() before fold().')
    # So that the model itself may be replaced like any other module.
    holder = nn.ModuleList([model if inplace else deepcopy(model)])
    report = FoldReport()
    with torch.no_grad():
        for block in _all(holder, Block):
            _fold_block(block, report)
        for merging in _all(holder, PatchMerging):
            report.layer_norms += _fold_norm(merging.norm, [merging.reduction])
        for parent in list(holder.modules()):
            for key, child in list(parent.named_children()):
                if is_plain(child, ConvBN) and _is_foldable(*child):
                    setattr(parent, key, fuse_conv_bn_eval(*child))
                    report.batch_norms += 1
                elif (
                    type(child) in (ATConv, ATConvStep)
                    and _is_plain(child)
                    and is_plain(child.kernel_gen, nn.Linear)
                    and child.difference_control is not None
                ):
                    setattr(parent, key, FoldedATConv(child))
                    report.modulations += 1
    if not report.folded:
        raise UserError(f'{name} has nothing to fold: it holds no BatchNorm, block or ATConv of mmatconv as built.')
    folded = holder[0].eval()
    folded.fold_report = report
    return folded


def _all(model: nn.Module, kind: type[nn.Module]) -> Iterator[nn.Module]:
    return (module for module in model.modules() if type(module) is kind)


def _is_plain(layer: nn.Module) -> bool:
    return is_plain(layer, type(layer))


def _is_convolution(layer: nn.Module) -> bool:
    return type(layer) in CONVOLUTIONS and _is_plain(layer)


def _is_foldable(conv: nn.Module, norm: nn.Module) -> bool:
    return _is_convolution(conv) and _is_plain(norm) and isinstance(norm, _BatchNorm) and norm.running_mean is not None


def _fold_block(block: Block, report: FoldReport) -> None:
    for number, mixer in ((1, block.token_mixer), (2, block.channel_mixer)):
        norm = getattr(block, f'norm_{number}')
        readers = [getattr(mixer, name) for name in INPUT_LAYERS.get(type(mixer), ())]
        if _fold_norm(norm, readers):
            report.layer_norms += 1
        elif getattr(norm, 'weight', None) is not None:
            report.kept += 1

        scale = getattr(block, f'layer_scale_{number}')
        last = mixer.get_submodule(OUTPUT_LAYER[type(mixer)]) if type(mixer) in OUTPUT_LAYER else None
        if is_plain(scale, LayerScale) and last is not None and _is_convolution(last):
            _scale_outputs(last, scale.gamma)
            setattr(block, f'layer_scale_{number}', nn.Identity())
            report.layer_scales += 1
        elif type(scale) is LayerScale:
            report.kept += 1

        if type(mixer) is ConvGLU and is_plain(mixer.norm_layer, RMSNorm2d) and is_plain(mixer.fc2, PointwiseConv):
            _scale_inputs(mixer.fc2, mixer.norm_layer.weight)
            mixer.norm_layer.weight = None
            report.rms_norms += 1


def _fold_norm(norm: nn.Module, readers: list[nn.Module]) -> bool:
    """Move gain and shift of a LayerNorm into all layers that read it; False where that cannot be."""
    if not is_plain(norm, LayerNorm2d) or norm.weight is None or not readers:
        return False
    if not all(is_plain(reader, PointwiseConv) for reader in readers):
        return False
    for reader in readers:
        # Not a matrix product, which a GPU may compute in TF32.
        shift = (reader.weight.flatten(1) * norm.bias).sum(1)
        _set(reader, 'bias', shift if reader.bias is None else reader.bias + shift)
        _scale_inputs(reader, norm.weight)
    norm.weight = norm.bias = None
    norm.elementwise_affine = False
    return True


def _scale_inputs(layer: PointwiseConv, factor: Tensor) -> None:
    _set(layer, 'weight', layer.weight * factor[:, None, None])


def _scale_outputs(layer: nn.Conv2d, factor: Tensor) -> None:
    _set(layer, 'weight', layer.weight * factor[:, None, None, None])
    if layer.bias is not None:
        _set(layer, 'bias', layer.bias * factor)


def _set(layer: nn.Conv2d, name: str, value: Tensor) -> None:
    setattr(layer, name, nn.Parameter(value.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad))
