"""The pictures of an evaluation on one sheet, with headings and a caption."""

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GAP = 12  # pixels between pictures and around text


def contact_sheet(
    pictures: list[Path],
    path: str | Path,
    headings: tuple[str, ...] = (),
    caption: str = '',
    columns: int = 3,
) -> None:
    """Puts pictures side by side into one.

    Args:
        pictures: Their files; all are drawn in the size of the first.
        path: The file to write; its folder is made.
        headings: Stand above each column, in equal parts of a picture's width: ('ground truth', 'prediction') for
            pictures that show the two side by side.
        caption: Stands below.
        columns: Pictures in a row.
    """
    images = [Image.open(picture).convert('RGB') for picture in pictures]
    width, height = images[0].size
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    font = _font(max(12, width // 26))
    line = font.size + GAP if headings else 0
    lines = _wrap(caption, font, columns * (width + GAP) - GAP) if caption else []
    total = (columns * (width + GAP) + GAP, line + GAP + rows * (height + GAP) + len(lines) * (font.size + GAP // 2))
    sheet = Image.new('RGB', (total[0], total[1] + (GAP if lines else 0)), 'white')
    draw = ImageDraw.Draw(sheet)
    for column in range(columns):
        for part, heading in enumerate(headings):
            centre = GAP + column * (width + GAP) + width * (2 * part + 1) // (2 * len(headings))
            draw.text((centre, GAP // 2 + line // 2), heading, 'black', font, anchor='mm')
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image.resize((width, height)), (GAP + column * (width + GAP), line + GAP + row * (height + GAP)))
    for number, text in enumerate(lines):
        draw.text((GAP, total[1] - (len(lines) - number) * (font.size + GAP // 2)), text, 'black', font)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _font(size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
