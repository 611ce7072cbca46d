"""What is timed: a case is a setting and the candidates that are compared under it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
FORMATS = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}
# Passes over the map that an operator cannot avoid: read and write, then read two maps and write one.
PASSES = {'forward': 2, 'backward': 5}


@dataclass(frozen=True)
class Setting:
    """What all candidates of a case have in common.

    Attributes:
        mode: 'forward', 'backward' (forward and backward) or 'step' (and the optimizer).
        size: Height and width in pixels of the map or image.
        batch: Samples B.
        dtype: A key of ``DTYPES``.
        memory_format: A key of ``FORMATS``, of the input.
        device: 'cpu' or 'cuda'.
        channels: C of a map, for operators and token mixers.
        kernel_size: K, for operators and token mixers.
        rois: RoIs an image for the box heads and for the mask heads of a detector.
        fold: Add our backbones folded for inference.
        mask_padding: Add our backbones with ``mask_padding``, on images that show padding and on the same without.
        compiled: Every candidate through torch.compile.
    """

    mode: str = 'forward'
    size: tuple[int, int] = (224, 224)
    batch: int = 1
    dtype: str = 'float32'
    memory_format: str = 'contiguous'
    device: str = 'cpu'
    channels: int = 128
    kernel_size: int = 3
    rois: tuple[int, int] = (1000, 100)
    fold: bool = False
    mask_padding: bool = False
    compiled: bool = False

    def random(self, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A random (B, channels, H, W) in the memory format and on the device, the same in every call."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, channels, *self.size, generator=generator)
        return x.to(self.device, dtype).contiguous(memory_format=FORMATS[self.memory_format])

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


@dataclass
class Candidate:
    """One implementation to compare.

    Attributes:
        name: Unique in its case.
        function: From the inputs to a tensor or nested tuples, lists and dicts of tensors. A module brings parameters.
        inputs: Arguments.
        differentiable: How many of the inputs, from the first, want a gradient.
        equal_to: The candidate whose results it must reproduce before anything is timed.
        timed: False where it is there for its results only.
        passes: Passes over the map that its floor consists of; None where there is no such floor.
        forward_only: Run forward in every mode.
    """

    name: str
    function: Callable[..., object] | nn.Module
    inputs: tuple[Tensor, ...]
    differentiable: int = 0
    equal_to: str | None = None
    timed: bool = True
    passes: int | None = None
    forward_only: bool = False


@dataclass
class Case:
    """Candidates compared under one setting.

    Attributes:
        level: 'operator', 'block', 'backbone' or 'detector'.
        model: What is compared.
        reference: The candidate that ratios are to.
        candidates: All of them.
        autocast: Weights and inputs stay float32 and torch.autocast gives the dtype; else they have it themselves.
        has_kinks: There are ReLUs, whose gradient jumps.
        left_out: What should be there and is not, and why.
    """

    level: str
    model: str
    setting: Setting
    reference: str
    candidates: Sequence[Candidate]
    autocast: bool = False
    has_kinks: bool = False
    left_out: Sequence[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        s = self.setting
        shape = ' x '.join(map(str, (s.batch, s.channels if self.level in ('operator', 'block') else 3, *s.size)))
        mode = {'forward': 'forward', 'backward': 'forward + backward', 'step': 'training step'}[s.mode]
        compiled = ', compiled' if s.compiled else ''
        return f'{self.level}: {self.model}, {mode}, {shape}, {s.dtype}, {s.memory_format}, {s.device}{compiled}'
