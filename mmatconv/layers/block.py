"""The residual block all backbones share: token mixer, then channel mixer, each normalised before and scaled after."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from mmatconv.layers.atconv import ATConv
from mmatconv.layers.channel_mixers import ConvGLU
from mmatconv.layers.norms import LayerNorm2d
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.plain import is_plain
from mmatconv.layers.pointwise import cast_for
from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.residual_norm.branch import Branch
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
        return self.factors(x, 1, dtype)[0]

    def factors(self, x: Tensor, count: int, dtype: torch.dtype | None = None) -> Sequence[Tensor | None]:
        """Those of ``count`` branches, drawn at once: see :meth:`factor`."""
        if not self.training or self.rate == 0:
            return [None] * count
        keep = 1 - self.rate
        return x.new_empty(count, x.shape[0], 1, 1, 1, dtype=dtype).bernoulli_(keep).div_(keep).unbind()

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
        path = choose(x)
        if takes_triton(path) and not is_observed() and self._is_plain():
            (cast,) = _cast_weights([self], x)
            return self._in_fused_sums(x, None, None, padding_mask, path, cast)[0]
        mask = () if padding_mask is None else (padding_mask,)
        x = self._widened(x)
        branch = self.token_mixer(self._normalise(x, self.norm_1), *mask)
        x = self._add(x, branch, self.layer_scale_1)
        branch = self.channel_mixer(self._normalise(x, self.norm_2), *mask)
        return self._add(x, branch, self.layer_scale_2)

    def _in_fused_sums(
        self,
        x: Tensor,
        normalised: Tensor | None,
        following: nn.Module | None,
        padding_mask: PaddingMask | None,
        path: str,
        cast: Sequence[Sequence[Tensor] | None],
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`forward`: each sum and the norm behind it are one kernel, which may end a mixer too.

        Args:
            x: (B, C, H, W).
            normalised: What ``norm_1`` makes of it, where that is known.
            following: The norm behind the block, or None.
            padding_mask: As for :meth:`forward`.
            path: What ``choose`` returned.
            cast: Of both mixers what ``cast_for`` returns.

        Returns:
            What :meth:`forward` returns, and what ``following`` makes of it or None.
        """
        dtype = autocast_dtype(x.device.type)
        mask = () if padding_mask is None else (padding_mask,)
        first, second = self.drop_path.factors(x, 2, sum_dtype(x))
        gamma = _gamma(self.layer_scale_1)
        if gamma is None or gamma.dtype != sum_dtype(x):  # else the sum is of its dtype
            x = self._widened(x)
        if normalised is None:
            x, normalised = residual_norm(x, None, None, None, _parameters(self.norm_1), dtype, path)
        branch = _branch(self.token_mixer, normalised, mask, cast[0])
        x, normalised = residual_norm(x, branch, gamma, first, _parameters(self.norm_2), dtype, path)
        branch, gamma = _branch(self.channel_mixer, normalised, mask, cast[1]), _gamma(self.layer_scale_2)
        return residual_norm(x, branch, gamma, second, _parameters(following), dtype, path)

    def _widened(self, x: Tensor) -> Tensor:
        """As a float32 LayerScale makes it under autocast in the released code. Half precision would lose steps of
        1e-6."""
        return x.to(sum_dtype(x)) if self.float32_stream and autocast_dtype(x.device.type) is not None else x

    def _is_plain(self) -> bool:
        """Whether reading the parameters of the layers around the mixers does what calling them would."""
        return (
            is_plain(self.norm_1, LayerNorm2d)
            and is_plain(self.norm_2, LayerNorm2d)
            and _scale_is_plain(self.layer_scale_1)
            and _scale_is_plain(self.layer_scale_2)
            and is_plain(self.drop_path, DropPath)
        )

    def _normalise(self, x: Tensor, norm: nn.Module) -> Tensor:
        """In the dtype of autocast where there is one: every product of a mixer would cast the map again."""
        dtype, normalised = autocast_dtype(x.device.type), norm(x)
        return normalised if dtype is None or normalised.dtype != torch.float32 else normalised.to(dtype)

    def _add(self, x: Tensor, branch: Tensor, layer_scale: nn.Module) -> Tensor:
        """``x + drop_path(layer_scale(branch))``, in one pass over the maps where both layers are plain."""
        if not (_scale_is_plain(layer_scale) and is_plain(self.drop_path, DropPath)):
            return x + self.drop_path(layer_scale(branch))
        gamma = _gamma(layer_scale)
        factor = self.drop_path.factor(branch, None if gamma is None else gamma.dtype)
        gamma = None if gamma is None else gamma[:, None, None]
        if factor is None:
            return x + branch if gamma is None else torch.addcmul(x, branch, gamma)
        return torch.addcmul(x, branch, factor if gamma is None else factor * gamma)


def run_blocks(blocks: Iterable[nn.Module], x: Tensor, padding_mask: PaddingMask | None) -> Iterator[Tensor]:
    """Blocks called one after another: yields what each makes of (B, C, H, W), for a caller to keep the last alone.

    On a GPU the last sum of a block and the first norm of the next are one kernel, unless a hook looks at a block.
    """
    blocks, path = list(blocks), choose(x)
    fused = takes_triton(path) and not is_observed()
    if not (fused and all(is_plain(block, Block) and block._is_plain() for block in blocks)):
        for block in blocks:
            x = block(x, padding_mask)
            yield x
        return
    normalised = None
    following = *(block.norm_1 for block in blocks[1:]), None
    for block, norm, cast in zip(blocks, following, _cast_weights(blocks, x)):
        x, normalised = block._in_fused_sums(x, normalised, norm, padding_mask, path, cast)
        yield x


def _cast_weights(blocks: Sequence[Block], x: Tensor) -> list[tuple[Sequence[Tensor] | None, ...]]:
    """Of each block what ``_in_fused_sums`` takes as ``cast``: a stage at once, so that gradients of one stage can be
    sent to other processes while those of the stages before it are computed."""
    mixers = [mixer for block in blocks for mixer in (block.token_mixer, block.channel_mixer)]
    offering = [mixer for mixer in mixers if _offers_a_branch(mixer)]
    cast = dict(zip(offering, cast_for(x, offering)))
    return [(cast.get(block.token_mixer), cast.get(block.channel_mixer)) for block in blocks]


def _branch(mixer: nn.Module, x: Tensor, mask: Sequence[PaddingMask], cast: Sequence[Tensor] | None) -> Branch:
    """What a mixer computes, its last elementwise operations left to the sum where it offers that."""
    if _offers_a_branch(mixer):
        return mixer.branch(x, *mask, cast=cast)
    return Branch(mixer(x, *mask))


def _offers_a_branch(mixer: nn.Module) -> bool:
    return is_plain(mixer, ATConv) or is_plain(mixer, ConvGLU)


def _gamma(layer_scale: nn.Module) -> Tensor | None:
    return layer_scale.gamma if isinstance(layer_scale, LayerScale) else None


def _scale_is_plain(layer_scale: nn.Module) -> bool:
    return is_plain(layer_scale, LayerScale) or is_plain(layer_scale, nn.Identity)


def _parameters(norm: nn.Module | None) -> tuple[Tensor | None, Tensor | None, float] | None:
    return None if norm is None else (norm.weight, norm.bias, norm.eps)
