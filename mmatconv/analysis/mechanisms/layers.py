"""What is looked at: bare layers on features of an image, or the token mixers of a trained model."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mmatconv.analysis.demo.inputs import Image
from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.backbones.token_mixers import build_token_mixer
from mmatconv.errors import UserError
from mmatconv.layers import ATConv, initialize

HEADS = 4
# Label and config of every layer that figure 1 compares, and of ACmix and LKCA.
BARE = {
    'ATConv 3x3': dict(type='ATConv'),
    'DWConv 7x7': dict(type='DepthwiseConv', kernel_size=7),
    'Conv 3x3': dict(type='Conv'),
    'global attention': None,
    'window attention': dict(type='WindowAttention', num_heads=HEADS),
    'pooling attention': dict(type='PoolingAttention', num_heads=HEADS),
    'spatial-reduction attention': dict(type='SpatialReductionAttention', num_heads=HEADS, sr_ratio=4),
    'ACmix': dict(type='ACmixWindow', num_heads=HEADS),
    'LKCA': dict(type='LKCA', num_heads=HEADS),
}
PATCH = 4


class GlobalAttention(nn.Module):
    """Softmax attention of every position to every position, by torch's layer.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        # As initialize() does for the linear layers of the others.
        for weight in (self.attention.in_proj_weight, self.attention.out_proj.weight):
            nn.init.trunc_normal_(weight, std=dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).unflatten(2, x.shape[2:])


def bare_layers(names: Sequence[str], dim: int, size: Sequence[int], seed: int) -> dict[str, nn.Module]:
    """Untrained layers for maps (B, dim, *size), with fan-in-scaled weights (``init='live'``), by label.

    Raises:
        UserError: A name that is not in ``BARE``, or channels that the heads do not divide.
    """
    layers = {}
    for name in names:
        if name not in BARE:
            raise UserError(f'there is no layer {name!r} to compare; choose from {", ".join(BARE)}.')
        if dim % HEADS:
            raise UserError(f'the {HEADS} heads of attention do not divide {dim} channels; choose a multiple of them.')
        torch.manual_seed(seed)
        if name == 'global attention':
            layer = GlobalAttention(dim, HEADS)
        else:
            config = {**BARE[name], **(dict(size=max(size)) if name == 'LKCA' else {})}
            layer = build_token_mixer(config, dim, 0, 1, 0, {})
            initialize(layer, 'live')
        layers[name] = layer.eval()
    return layers


def read_image(image: Image, size: int) -> np.ndarray:
    """Pixels (size, size, 3) in RGB, the middle of the image, its shorter side resized.

    Raises:
        UserError: It is not an image or is damaged.
    """
    pixels = image.frame if image.frame is not None else cv2.imread(str(image.path))
    if pixels is None:
        raise UserError(f"'{image.path}' is not an image or is damaged; repair or remove it.")
    scale = size / min(pixels.shape[:2])
    height, width = (max(size, round(side * scale)) for side in pixels.shape[:2])
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size, ::-1])


def features(pixels: np.ndarray, dim: int, seed: int) -> Tensor:
    """A map (1, dim, H / 4, W / 4) of an image (H, W, 3): its patches by a random projection, normalised."""
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(dim, 3, PATCH, PATCH, generator=generator) / (3 * PATCH**2) ** 0.5
    x = nn.functional.conv2d(x, weight, stride=PATCH)
    return nn.functional.layer_norm(x.permute(0, 2, 3, 1), (dim,)).permute(0, 3, 1, 2).contiguous()


def token_mixers(model: nn.Module) -> dict[tuple[int, int], nn.Module]:
    """The token mixers of a model's backbone by stage and block.

    Raises:
        UserError: The backbone is not one of mmatconv with blocks.
    """
    backbone = getattr(model, 'backbone', model)
    mixers = {
        (i, j): block.token_mixer
        for i, stage in enumerate(getattr(backbone, 'stages', ()))
        for j, block in enumerate(stage)
        if hasattr(block, 'token_mixer')
    }
    if not mixers:
        raise UserError(
            f'the backbone {type(backbone).__name__} has no token mixers; use AttNet, ATConvPVT or ATConvSwin.'
        )
    return mixers


class Recorded:
    """A trained model whose token mixers' inputs are kept while it predicts.

    Args:
        model: The model.
        places: Stage and block of the token mixers. Default: None, all that are an ATConv.

    Raises:
        UserError: There is no such token mixer.
    """

    def __init__(self, model: TrainedModel, places: Sequence[tuple[int, int]] | None = None) -> None:
        self.model = model
        mixers = token_mixers(model.model)
        if places is None:
            places = [place for place, mixer in mixers.items() if isinstance(mixer, ATConv)]
            if not places:
                raise UserError('the backbone has no ATConv; its token mixers are of another type.')
        for stage, block in places:
            if (stage, block) not in mixers:
                known = ', '.join(f'{i}.{j}' for i, j in mixers)
                raise UserError(f'the backbone has no token mixer at stage.block {stage}.{block}; it has {known}.')
        self.mixers = {place: mixers[place] for place in places}

    def inputs(self, image: Image) -> tuple[np.ndarray, dict[tuple[int, int], Tensor]]:
        """Predict on an image.

        Returns:
            Its pixels (H, W, 3) in RGB, and the input (1, C, H', W') of each token mixer by stage and block.
        """
        pixels, sample = self.model.read(image)
        seen: dict[tuple[int, int], Tensor] = {}

        def keep(place: tuple[int, int]):
            return lambda module, args: seen.__setitem__(place, args[0].detach())

        handles = [mixer.register_forward_pre_hook(keep(place)) for place, mixer in self.mixers.items()]
        try:
            self.model.predict([sample])
        finally:
            for handle in handles:
                handle.remove()
        return pixels, seen
