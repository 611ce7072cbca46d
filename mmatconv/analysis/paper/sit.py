"""Table VIII: SiT by formula, since OpenMMLab has no SiT to count.

The formulas follow the public code of SiT (github.com/willisma/SiT) and of the paper's SiT-ATConv, for 1000 classes,
latents of 4 channels in patches of 2, and predicted variances. D is the width, N the number of tokens.
"""

from mmatconv.analysis.paper.figures import Counted

# Width D and number of blocks.
ARCHS = {'B/2': (768, 12), 'L/2': (1024, 24), 'XL/2': (1152, 28)}
# Which of the blocks have ATConv in place of attention: none, every second, all.
SHARES = {'attention': 0.0, 'hybrid': 0.5, 'atconv': 1.0}
CLASSES, FREQUENCIES, PATCH, OUTPUT, BINS = 1000, 256, 4 * 2 * 2, 8 * 2 * 2, 9


def params(arch: str, mixer: str) -> int:
    """Trained parameters; the fixed position embedding is none.

    Args:
        arch: 'B/2', 'L/2' or 'XL/2'.
        mixer: 'attention', 'hybrid' or 'atconv'.
    """
    dim, depth = ARCHS[arch]
    embedders = _linear(PATCH, dim) + _linear(FREQUENCIES, dim) + _linear(dim, dim) + (CLASSES + 1) * dim
    attention = _linear(dim, 3 * dim) + _linear(dim, dim)
    # kernel_proj, x_proj, proj; kernel_gen; difference_control.
    atconv = 3 * _linear(dim, dim) + _linear(BINS, BINS) + dim
    rest = _linear(dim, 4 * dim) + _linear(4 * dim, dim) + _linear(dim, 6 * dim)
    final = _linear(dim, OUTPUT) + _linear(dim, 2 * dim)
    replaced = int(depth * SHARES[mixer])
    return embedders + depth * (attention + rest) + replaced * (atconv - attention) + final


def macs(arch: str, mixer: str, tokens: int, pooling_first: bool = False) -> int:
    """Multiply-adds of one forward pass of one image.

    Args:
        arch: 'B/2', 'L/2' or 'XL/2'.
        mixer: 'attention', 'hybrid' or 'atconv'.
        tokens: N, 256 for images of 256 pixels and 1024 for 512.
        pooling_first: Pool before ``kernel_proj``, as ATConv here does. Default: False.
    """
    dim, depth = ARCHS[arch]
    square = dim * dim
    attention = 4 * tokens * square + 2 * tokens * tokens * dim
    projected = BINS if pooling_first else tokens
    atconv = (projected + 2 * tokens) * square + BINS * BINS * dim + tokens * BINS * dim
    rest = 8 * tokens * square + 6 * square
    ends = tokens * PATCH * dim + FREQUENCIES * dim + square + tokens * dim * OUTPUT + 2 * square
    replaced = int(depth * SHARES[mixer])
    return depth * (attention + rest) + replaced * (atconv - attention) + ends


def count(arch: str, mixer: str) -> dict[str, Counted]:
    """The figures of a row: parameters in millions, multiply-adds at 512 pixels in billions."""
    first = None if mixer == 'attention' else macs(arch, mixer, 1024, pooling_first=True) / 1e9
    return {
        'params': Counted(params(arch, mixer) / 1e6),
        'flops': Counted(macs(arch, mixer, 1024) / 1e9, first),
    }


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
