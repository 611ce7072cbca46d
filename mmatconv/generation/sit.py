"""SiT, the scalable interpolant transformer (arXiv 2401.08740), with attention, with ATConv, or with both in turns.

Table VIII of arXiv 2510.20092. Parameter names are those of the released code
(github.com/price112/Attentive-Convolution, MIT licence, Copyright (c) 2025 price112), so that its weights and those of
github.com/willisma/SiT load unchanged.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.generation.blocks import Attention, FinalLayer, SiTATConv, SiTBlock
from mmatconv.generation.embeddings import LabelEmbedder, TimeEmbedder, position_embedding
from mmatconv.layers.init import STYLES
from mmatconv.ops.autocast import autocast_dtype

# What the blocks have, in turn.
TOKEN_MIXERS = {'attention': ('attention',), 'atconv': ('atconv',), 'hybrid': ('attention', 'atconv')}


class SiT(nn.Module):
    """The velocity of a noisy image, or of its latents, at a time of the path from noise (0) to data (1).

    Args:
        arch: 'S/2', 'B/2', 'L/2', 'XL/2', or a dict with ``depth``, ``hidden_size``, ``num_heads``, ``patch_size``.
            Default: 'XL/2'.
        token_mixer: 'attention' in all blocks, 'atconv' in all, or 'hybrid': ATConv in every second, beginning with
            the second. Default: 'attention'.
        input_size: Height and width of the input, one number for both; multiples of ``patch_size``. With 'atconv',
            which has no position embedding, only the size that is sampled, since it takes any. Default: 32.
        in_channels: 4 for latents, 3 for pixels. Default: 4.
        num_classes: 1 for a model without classes. Default: 1000.
        class_dropout_prob: How often training hides the class; above 0 there is a further label, 'no class', which
            classifier-free guidance needs. Default: 0.1.
        learn_sigma: Twice the channels come out of the last layer, of which the second half is dropped: the released
            weights have it. Default: True.
        mlp_ratio: Hidden channels of the MLPs over ``hidden_size``. Default: 4.
        init: 'released' is the released code's. It begins nearly blind to time and class, which 'live', for short
            training from scratch, embeds at the scale of one; with unit-normal ``kernel_proj`` biases in ATConv.
            Default: 'released'.

    Raises:
        UserError: An unknown ``arch``, ``token_mixer`` or ``init``, or sizes that do not divide.
    """

    arch_settings = {
        'S/2': dict(depth=12, hidden_size=384, num_heads=6, patch_size=2),
        'B/2': dict(depth=12, hidden_size=768, num_heads=12, patch_size=2),
        'L/2': dict(depth=24, hidden_size=1024, num_heads=16, patch_size=2),
        'XL/2': dict(depth=28, hidden_size=1152, num_heads=16, patch_size=2),
    }

    def __init__(
        self,
        arch: str | Mapping[str, int] = 'XL/2',
        token_mixer: str = 'attention',
        input_size: int | tuple[int, int] = 32,
        in_channels: int = 4,
        num_classes: int = 1000,
        class_dropout_prob: float = 0.1,
        learn_sigma: bool = True,
        mlp_ratio: float = 4.0,
        init: str = 'released',
    ) -> None:
        super().__init__()
        if init not in STYLES:
            raise UserError(f'init must be one of {", ".join(STYLES)}, but is {init!r}.')
        settings = self._settings(arch)
        if token_mixer not in TOKEN_MIXERS:
            raise UserError(f'token_mixer must be one of {", ".join(TOKEN_MIXERS)}, but is {token_mixer!r}.')
        dim, heads, patch = settings['hidden_size'], settings['num_heads'], settings['patch_size']
        if dim % 4 or dim % heads:
            raise UserError(f'hidden_size must be divisible by 4 and by num_heads ({heads}), but is {dim}.')
        if num_classes < 1:
            raise UserError(f'num_classes must be 1 (a model without classes) or more, but is {num_classes}.')
        self.input_size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        self.patch_size = patch
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.can_guide = num_classes > 1 and class_dropout_prob > 0
        height, width = self._grid(self.input_size)
        self.out_channels = in_channels * (2 if learn_sigma else 1)

        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(in_channels, dim, patch, patch)
        self.t_embedder = TimeEmbedder(dim)
        self.y_embedder = LabelEmbedder(num_classes, dim, class_dropout_prob)
        if token_mixer != 'atconv':
            self.register_buffer('pos_embed', position_embedding(height, width, dim))
        in_turn = TOKEN_MIXERS[token_mixer]
        self.blocks = nn.ModuleList()
        for i in range(settings['depth']):
            atconv = in_turn[i % len(in_turn)] == 'atconv'
            self.blocks.append(SiTBlock(dim, SiTATConv(dim) if atconv else Attention(dim, heads), mlp_ratio))
        self.final_layer = FinalLayer(dim, patch * patch * self.out_channels)
        self._initialize()
        if init == 'live':
            self._enliven()

    def _settings(self, arch: str | Mapping[str, int]) -> Mapping[str, int]:
        names = self.arch_settings['S/2']
        if isinstance(arch, str) and arch.upper() in self.arch_settings:
            return self.arch_settings[arch.upper()]
        if isinstance(arch, Mapping) and set(arch) == set(names):
            return arch
        raise UserError(
            f'arch must be one of {", ".join(self.arch_settings)} or a dict of {", ".join(names)}, but is {arch!r}.'
        )

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = size
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise UserError(
                f'the input must have sides that are multiples of the patch size {self.patch_size}, but is '
                f'{height} x {width}.'
            )
        return height // self.patch_size, width // self.patch_size

    def _initialize(self) -> None:
        """As the released code: Xavier for linear layers and patches, zero for gates and the last layer."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.view(len(self.x_embedder.proj.weight), -1))
        nn.init.zeros_(self.x_embedder.proj.bias)
        for layer in (self.y_embedder.embedding_table, self.t_embedder.mlp[0], self.t_embedder.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        gates = [module.adaLN_modulation[1] for module in (*self.blocks, self.final_layer)]
        for layer in (*gates, self.final_layer.linear):
            nn.init.zeros_(layer.weight)

    def _enliven(self) -> None:
        # The waves of times from 0 to 1 differ little, and the released layers begin with a hundredth of that.
        nn.init.normal_(self.t_embedder.mlp[0].weight, std=0.25)
        nn.init.xavier_uniform_(self.t_embedder.mlp[2].weight)
        nn.init.normal_(self.y_embedder.embedding_table.weight)
        for module in self.modules():
            if isinstance(module, SiTATConv):
                nn.init.normal_(module.kernel_proj.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The velocity.

        Args:
            x: (B, C, H, W). With attention, of ``input_size``.
            t: (B,), 0 for noise to 1 for data.
            labels: (B,), from 0; ``num_classes`` is 'no class'. Default: None, 'no class', or the only class.

        Returns:
            (B, C, H, W).

        Raises:
            UserError: Another size with attention, or one that patches do not divide.
        """
        size = self._grid(tuple(x.shape[2:]))
        tokens = self.x_embedder.proj(x).flatten(2).transpose(1, 2)
        if hasattr(self, 'pos_embed'):
            if tuple(x.shape[2:]) != self.input_size:
                expected, found = (' x '.join(map(str, sides)) for sides in (self.input_size, x.shape[2:]))
                raise UserError(f'this SiT has position embeddings for inputs of {expected}, but the input is {found}.')
            tokens = tokens + self.pos_embed
        if autocast_dtype(x.device.type) is not None:
            # As the position embedding makes it in the released code; ATConv alone would leave it in half precision.
            tokens = tokens.float()
        tokens = tokens.contiguous()
        if labels is None:
            last = self.y_embedder.embedding_table.num_embeddings - 1
            labels = torch.full((len(x),), last, dtype=torch.long, device=x.device)
        condition = self.t_embedder(t) + self.y_embedder(labels)
        for block in self.blocks:
            tokens = block(tokens, condition, size)
        return self._to_map(self.final_layer(tokens, condition), size)

    def _to_map(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, N, P * P * channels) -> (B, C, H, W), without what ``learn_sigma`` adds."""
        patches = values.unflatten(2, (self.patch_size, self.patch_size, self.out_channels)).unflatten(1, size)
        pixels = patches[..., : self.in_channels].permute(0, 5, 1, 3, 2, 4)
        return pixels.flatten(4, 5).flatten(2, 3)
