"""The classes of the generated data set and their colours."""

from __future__ import annotations

CLASSES: tuple[str, ...] = ('disc', 'triangle', 'rectangle', 'star', 'ring')
# In the label maps 0 is 'ignored', 1 is SEG_CLASSES[0], and so on: ADE20K's convention (reduce_zero_label=True).
SEG_CLASSES: tuple[str, ...] = ('background', *CLASSES)
# RGB, one for each of SEG_CLASSES; PALETTE[1:] goes with CLASSES.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (96, 96, 96),
    (230, 85, 60),
    (250, 190, 40),
    (70, 170, 90),
    (60, 120, 220),
    (170, 80, 200),
)
