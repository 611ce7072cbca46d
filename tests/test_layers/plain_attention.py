"""Attention over all pairs of positions, written out: what the window mixers are compared with."""

import torch


def tokens_of(x):
    """(B, C, H, W) -> (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens, size):
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def project(tokens, layer):
    output = tokens @ layer.weight.flatten(1).T
    return output if layer.bias is None else output + layer.bias


def all_pairs(q, k, v, heads, allowed=None, bias=None):
    """Softmax attention head by head.

    Args:
        q: (B, N, C).
        k: (B, M, C).
        v: (B, M, C).
        heads: Number of heads.
        allowed: (N, M), which pairs there are. Default: all.
        bias: (heads, N, M), added to the similarity. Default: none.
    """
    outputs = []
    for head, (a, b, c) in enumerate(zip(*(t.chunk(heads, dim=2) for t in (q, k, v)))):
        similarity = a @ b.transpose(1, 2) / a.shape[2] ** 0.5
        if bias is not None:
            similarity = similarity + bias[head]
        if allowed is not None:
            similarity = similarity.masked_fill(~allowed, -torch.inf)
        outputs.append(similarity.softmax(2) @ c)
    return torch.cat(outputs, 2)


def coordinates(height, width):
    """Rows and columns of all positions, row by row."""
    return torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)


def swin_bias(table, rows, columns, side):
    """(heads, N, N): Swin's biases between positions of windows of ``side``, given their places in the window."""
    down = rows[:, None] - rows[None, :] + side - 1
    right = columns[:, None] - columns[None, :] + side - 1
    return table[down.clamp(0, 2 * side - 2) * (2 * side - 1) + right.clamp(0, 2 * side - 2)].permute(2, 0, 1)


def same(*labels):
    """(N, N): whether two positions have all labels in common."""
    return torch.stack([label[:, None] == label[None, :] for label in labels]).all(0)
