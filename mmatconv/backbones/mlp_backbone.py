"""The form ATConv-PVT and ATConv-Swin share."""

from torch import Tensor, nn

from mmatconv.backbones.base import Backbone, mean_of_positions
from mmatconv.layers import MLP, Block, LayerNorm2d
from mmatconv.layers.padding_mask import PaddingMask


class MLPBackbone(Backbone):
    """A backbone whose channel mixers are MLPs of ``mlp_ratios``; its final LayerNorm precedes the mean over positions.

    ``norm_eps`` is the epsilon of the norms in the blocks and of the final one.
    """

    norm_eps: float

    def make_block(self, i: int, j: int, drop_path: float) -> nn.Module:
        dim = self.dims[i]
        return Block(
            dim,
            token_mixer=self.make_token_mixer(i, j),
            channel_mixer=MLP(dim, int(dim * self.arch['mlp_ratios'][i])),
            drop_path=drop_path,
            norm_eps=self.norm_eps,
        )

    def make_final_norm(self, dim: int) -> nn.Module:
        return LayerNorm2d(dim, eps=self.norm_eps)

    def pool(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        return mean_of_positions(self.norm(x), padding_mask)
