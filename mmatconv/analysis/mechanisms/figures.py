"""The pictures of tools/analysis_tools/routing.py and inhibition.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from mmatconv.analysis.mechanisms.routing import Routing

PANEL = 2.6  # inches
# Generated kernels shown of a layer.
KERNELS = 64


def draw_routing(
    pixels: np.ndarray, routings: Mapping[str, Routing], responses: Mapping[str, Tensor], path: Path, footer: str
) -> None:
    """Layers side by side over an image: arrows to the centroids, influence on the middle position, suppression.

    Args:
        pixels: (H, W, 3), RGB.
        routings: By label.
        responses: The suppression response (H', W') by label.
        path: A .png.
        footer: How it was made.
    """
    figure = Figure(figsize=(PANEL * len(routings), 3 * PANEL + 0.7), layout='constrained')
    rows = figure.subplots(3, len(routings), squeeze=False)
    for (label, routing), (arrows, influence, suppressed) in zip(routings.items(), rows.T):
        size = routing.influences[0].shape
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        for panel in (arrows, influence, suppressed):
            panel.set(xticks=[], yticks=[])
        arrows.imshow(pixels, extent=extent, alpha=0.75)
        starts, ends = np.array(routing.positions), np.array(routing.centroids)
        way = ends - starts
        arrows.quiver(
            starts[:, 1], starts[:, 0], way[:, 1], way[:, 0],
            angles='xy', scale_units='xy', scale=1, color='red', width=0.012,
        )  # fmt: skip
        arrows.plot(starts[:, 1], starts[:, 0], 'o', color='white', markersize=2.5)
        arrows.set_title(label, fontsize=10)
        arrows.set_xlabel(f'FAR {routing.mean_far:.3f}, arrows differ by {routing.diversity:.1f}', fontsize=8)
        # Of an even number of positions the one behind the middle.
        chosen = (len(routing.positions) + int(len(routing.positions) ** 0.5)) // 2
        chosen = min(chosen, len(routing.positions) - 1)
        _overlay(influence, pixels, routing.influences[chosen], extent, 'inferno')
        row, column = routing.positions[chosen]
        influence.plot(column, row, '+', color='cyan', markersize=8)
        _overlay(suppressed, pixels, responses[label], extent, 'viridis')
        suppressed.set_xlabel(f'mean {float(responses[label].mean()):.2g}', fontsize=8)
    for panel, text in zip(rows[:, 0], ('adaptive routing', 'influence on +', 'suppression response')):
        panel.set_ylabel(text, fontsize=10)
    _save(figure, path, footer)


def _overlay(panel, pixels: np.ndarray, values: Tensor, extent: tuple, colours: str) -> None:
    grey = pixels.mean(2)
    panel.imshow(grey, extent=extent, cmap='gray')
    values = values.numpy()
    # The position itself often has most of it, which would leave the rest dark.
    high = np.quantile(values, 0.995) or values.max() or 1.0
    panel.imshow(values, extent=extent, cmap=colours, vmin=0, vmax=high, alpha=0.75)


def draw_depth(rows: Sequence[Mapping[str, float]], path: Path, footer: str) -> None:
    """Centre-surround contrast and channel effective rank over depth, with and without modulation (figure 3).

    Args:
        rows: One for each layer with ``layer``, ``csc``, ``csc_without``, ``cer`` and ``cer_without``.
        path: A .png.
        footer: How it was made.
    """
    figure = Figure(figsize=(11, 3.8), layout='constrained')
    for panel, key, title in zip(
        figure.subplots(1, 2), ('csc', 'cer'), ('centre-surround contrast (CSC)', 'channel effective rank (CER)')
    ):
        for suffix, label, style in (('', 'with modulation', 'o-'), ('_without', 'without', 's--')):
            panel.plot([row[key + suffix] for row in rows], style, markersize=4, label=label)
        step = max(1, len(rows) // 12)
        panel.set_xticks(range(0, len(rows), step), [rows[i]['layer'] for i in range(0, len(rows), step)], fontsize=7)
        panel.set(title=title, xlabel='stage.block', ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    _save(figure, path, footer)


def draw_kernels(kernels: Mapping[str, Tensor], factors: Mapping[str, Tensor], path: Path, footer: str) -> None:
    """What a network makes of an image: generated kernels of a layer for each stage, and its lambda of equation 8.

    Args:
        kernels: (C, K, K) by label; the first 64 channels are drawn.
        factors: (C,) by label.
        path: A .png.
        footer: How it was made.
    """
    figure = Figure(figsize=(PANEL * len(kernels), 2 * PANEL + 0.4), layout='constrained')
    for (label, each), (mosaic, curve) in zip(kernels.items(), figure.subplots(2, len(kernels), squeeze=False).T):
        each = each[:KERNELS]
        size, side = each.shape[-1], int(np.ceil(len(each) ** 0.5))
        sheet = np.full((side * (size + 1) + 1, side * (size + 1) + 1), np.nan)
        for i, kernel in enumerate(each.numpy()):
            row, column = (place * (size + 1) + 1 for place in divmod(i, side))
            # By its own largest weight: the shapes are to be seen.
            sheet[row : row + size, column : column + size] = kernel / (np.abs(kernel).max() or 1)
        mosaic.imshow(sheet, cmap='RdBu_r', vmin=-1, vmax=1)
        mosaic.set(xticks=[], yticks=[])
        mosaic.set_title(f'{label}: {len(each)} kernels', fontsize=9)
        curve.plot(np.sort(factors[label].numpy()))
        curve.set(
            ylim=(0, 1), xlabel='channels, sorted', ylabel='lambda' if curve.get_subplotspec().is_first_col() else ''
        )
        curve.grid(alpha=0.3)
    _save(figure, path, footer)


def _save(figure: Figure, path: Path, footer: str) -> None:
    figure.text(0.005, -0.02, footer, fontsize=7, va='top')
    figure.savefig(path, dpi=110, bbox_inches='tight')
