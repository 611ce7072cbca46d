"""The sheet of predictions: pictures in rows, headings above, a caption below."""

import numpy as np
from PIL import Image

from mmatconv.analysis.contact_sheet import GAP, contact_sheet


def pictures(folder, count, size=(120, 60)):
    paths = [folder / f'{i}.png' for i in range(count)]
    for i, path in enumerate(paths):
        Image.new('RGB', size, (0, 50 * i, 0)).save(path)
    return paths


def test_pictures_fill_rows(tmp_path):
    contact_sheet(pictures(tmp_path, 4), tmp_path / 'new' / 'sheet.png', columns=3)
    sheet = np.array(Image.open(tmp_path / 'new' / 'sheet.png'))
    assert sheet.shape == (2 * 60 + 3 * GAP, 3 * 120 + 4 * GAP, 3)
    middle = [sheet[GAP + 30, GAP + 60 + i * (120 + GAP), 1] for i in range(3)]
    assert middle == [0, 50, 100] and sheet[2 * GAP + 90, GAP + 60, 1] == 150
    assert (sheet[2 * GAP + 90, 2 * GAP + 180] == 255).all()


def test_headings_stand_above_their_half_and_the_caption_below(tmp_path):
    sheets = {}
    for name, texts in {'plain': {}, 'left': dict(headings=('truth', ' ')), 'both': dict(headings=('truth', 'guess')),
                        'caption': dict(caption='box AP 70.2, ' * 9)}.items():  # fmt: skip
        contact_sheet(pictures(tmp_path, 1), tmp_path / 'sheet.png', **texts)
        sheets[name] = np.array(Image.open(tmp_path / 'sheet.png')) < 128
    extra = len(sheets['both']) - len(sheets['plain'])
    halves = sheets['both'][:extra].any((0, 2))
    assert halves[GAP : GAP + 60].any() and halves[GAP + 60 : GAP + 120].any()
    assert not sheets['left'][:extra, GAP + 60 :].any()
    # Longer than the sheet is wide, it takes several lines, all of them inside.
    below = sheets['caption'][len(sheets['plain']) :]
    assert below.any() and not below[:, -1].any() and not below[-1].any()
