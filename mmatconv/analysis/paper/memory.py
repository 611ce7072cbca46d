"""The memory claims of section III-D: equation 15, activations of one layer in 16 bits."""

from mmatconv.analysis.paper.figures import Counted

BATCH, CHANNELS, KERNEL, BYTES = 32, 384, 3, 2
MIB = 2**20


def attention(side: int) -> float:
    """MiB of self-attention on a square map: Q, K, V and the attention map."""
    tokens = side * side
    return BYTES * (3 * BATCH * tokens * CHANNELS + BATCH * tokens * tokens) / MIB


def atconv(side: int) -> float:
    """MiB of ATConv on a square map: one activation and the kernels."""
    return BYTES * (BATCH * side * side * CHANNELS + BATCH * CHANNELS * KERNEL * KERNEL) / MIB


def count(kind: str, side: int) -> dict[str, Counted]:
    """The figure of a row: 'attention' and 'atconv' in MiB, 'saved' in percent."""
    if kind == 'saved':
        return {'saved': Counted(100 * (1 - atconv(side) / attention(side)))}
    return {'memory': Counted({'attention': attention, 'atconv': atconv}[kind](side))}
