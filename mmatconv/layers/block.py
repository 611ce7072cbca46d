"""The residual block all backbones share: token mixer, then channel mixer, each normalised before and scaled after."""

import torch
from torch import Tensor, nn

from mmatconv.layers.norms import LayerNorm2d
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.plain import is_plain
from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.residual_norm.function import residual_norm
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.tracing import is_observed


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch.

    Args:
        dim: Channels C.
        init_value: First value of every factor. Default: 1e-6, as in the released code.
    """

    def __init__(self, dim: int, init_value: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x * self.gamma[:, None, None]


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples in training, and scales the others up.

    Args:
        rate: Probability of dropping, from 0 to below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def factor(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
        """The factor (B, 1, 1, 1) of each sample of (B, C, H, W), or None where it is 1 for all.

        Its dtype is ``dtype``, or that of ``x`` for None.
        """
        if not self.training or self.rate == 0:
            return None
        keep = 1 - self.rate
        return x.new_empty(x.shape[0], 1, 1, 1, dtype=dtype).bernoulli_(keep).div_(keep)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        factor = self.factor(x)
        return x if factor is None else x * factor

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3g}'


class Block(nn.Module):
    """``x + scale(token_mixer(norm(x)))``, then the same with the channel mixer.

    Args:
        dim: Channels C.
        token_mixer: (B, C, H, W) -> (B, C, H, W), mixes positions.
        channel_mixer: (B, C, H, W) -> (B, C, H, W), mixes channels.
        drop_path: Probability of dropping each of the two branches. Default: 0.
        layer_scale: A LayerScale on both branches. Under autocast the sums are then in float32. Default: False.
        norm_eps: Added to the variance in both norms. Default: 1e-6.
    """

    def __init__(
        self,
        dim: int,
        token_mixer: nn.Module,
        channel_mixer: nn.Module,
        drop_path: float = 0.0,
        layer_scale: bool = False,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm_1 = LayerNorm2d(dim, norm_eps)
        self.token_mixer = token_mixer
        self.layer_scale_1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm_2 = LayerNorm2d(dim, norm_eps)
        self.channel_mixer = channel_mixer
        self.layer_scale_2 = LayerScale(dim) if layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)
        # Under autocast. Stays where deploy/folding.py moves a LayerScale into the layer before it.
        self.float32_stream = layer_scale

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); a ``padding_mask`` is passed to both mixers as second argument."""
        mask = () if padding_mask is None else (padding_mask,)
        if self.float32_stream and autocast_dtype(x.device.type) is not None:
            # As a float32 LayerScale makes it in the released code. Half precision would lose steps of 1e-6.
            x = x.to(sum_dtype(x))
        path = choose(x)
        x, normalised = self._add_and_normalise(x, None, None, self.norm_1, path)
        branch = self.token_mixer(normalised, *mask)
        x, normalised = self._add_and_normalise(x, branch, self.layer_scale_1, self.norm_2, path)
        branch = self.channel_mixer(normalised, *mask)
        return self._add_and_normalise(x, branch, self.layer_scale_2, None, path)[0]

    def _add_and_normalise(
        self, x: Tensor, branch: Tensor | None, layer_scale: nn.Module | None, norm: nn.Module | None, path: str
    ) -> tuple[Tensor, Tensor | None]:
        """``x + drop_path(layer_scale(branch))`` and its norm, each where given, in one kernel on a GPU.

        The norm is in the dtype of autocast where there is one: every product of a mixer would cast the map again.
        """
        dtype = autocast_dtype(x.device.type)
        if takes_triton(path) and not is_observed() and self._is_plain(layer_scale, norm):
            gamma = layer_scale.gamma if isinstance(layer_scale, LayerScale) else None
            factor = None if branch is None else self.drop_path.factor(branch, None if gamma is None else gamma.dtype)
            parameters = None if norm is None else (norm.weight, norm.bias, norm.eps)
            return residual_norm(x, branch, gamma, factor, parameters, dtype, path)
        if branch is not None:
            x = self._add(x, branch, layer_scale)
        if norm is None:
            return x, None
        normalised = norm(x)
        return x, normalised if dtype is None or normalised.dtype != torch.float32 else normalised.to(dtype)

    def _is_plain(self, layer_scale: nn.Module | None, norm: nn.Module | None) -> bool:
        """Whether reading the parameters of the layers, where given, does what calling them would."""
        if norm is not None and not is_plain(norm, LayerNorm2d):
            return False
        scale_is_plain = is_plain(layer_scale, LayerScale) or is_plain(layer_scale, nn.Identity)
        return layer_scale is None or (scale_is_plain and is_plain(self.drop_path, DropPath))

    def _add(self, x: Tensor, branch: Tensor, layer_scale: nn.Module) -> Tensor:
        """``x + drop_path(layer_scale(branch))``, in one pass over the maps where both layers are plain."""
        if not self._is_plain(layer_scale, None):
            return x + self.drop_path(layer_scale(branch))
        scaled = isinstance(layer_scale, LayerScale)
        gamma = layer_scale.gamma[:, None, None] if scaled else None
        factor = self.drop_path.factor(branch, gamma.dtype if scaled else None)
        if factor is None:
            return x + branch if gamma is None else torch.addcmul(x, branch, gamma)
        return torch.addcmul(x, branch, factor if gamma is None else factor * gamma)
