"""Generated people in the folder layouts of LLCM and VCM: an identity has a pattern, a modality a colour."""

import cv2
import numpy as np

SIDE = 32


def draw(path, person, infrared, rng):
    """A picture of a person who is no more than a pattern: rows, columns, squares, or nothing; with a little noise."""
    y, x = np.indices((SIDE, SIDE)) // 4 % 2
    pattern = (y, x, y ^ x, np.zeros_like(x))[person]
    image = np.repeat(60.0 + 130 * pattern[..., None], 3, axis=2)
    # Infrared is grey; visible light has a colour, faint enough for a network that has learned next to nothing.
    image += rng.normal(0, 1, (SIDE, SIDE, 1 if infrared else 3)) + (0 if infrared else np.array([0, 1, 2]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))


def write_llcm(root, persons=4, images=4):
    """Identities 1, 2, ... to train with, 11, 12, ... to test with, which look alike; infrared cameras are others."""
    rng = np.random.default_rng(0)
    (root / 'idx').mkdir(parents=True)
    for short, cameras in (('vis', (1, 2)), ('nir', (4, 5))):
        lines = []
        for person in range(persons):
            for number in range(images):
                name = f'{short}/{person + 1:04d}/{person + 1:04d}_c{cameras[number % 2]:02d}_s{number}_f1_{short}.png'
                draw(root / name, person, short == 'nir', rng)
                lines.append(f'{name} {person}\n')
                camera = root / f'test_{short}' / f'cam{cameras[number % 2]}'
                draw(camera / f'{person + 11:04d}' / f'{number}.png', person, short == 'nir', rng)
        (root / 'idx' / f'train_{short}.txt').write_text(''.join(lines))
    (root / 'idx' / 'test_id.txt').write_text(','.join(str(person + 11) for person in range(persons)))
    return root


def write_vcm(root, persons=2, frames=12):
    """A track of each modality for each identity, 1, 2 to train, 3, 4 to test, and one that is too short."""
    rng = np.random.default_rng(0)
    (root / 'info').mkdir(parents=True)
    for split, start in (('train', 1), ('test', persons + 1)):
        names, tracks = [], []
        for person in range(start, start + persons):
            for modality, folder, camera in ((1, 'ir', 3), (2, 'rgb', 5)):
                for length in (frames, 5) if person == start else (frames,):
                    tracks.append(f'{modality} {len(names) + 1} {len(names) + length} {person} {camera}\n')
                    for frame in range(len(names) + 1, len(names) + length + 1):
                        names.append(f'{person:04d}M{modality}D{camera}T{len(tracks)}F{frame}.png\n')
                        path = root / split.capitalize() / f'{person:04d}' / folder / f'D{camera}' / f'{frame}.png'
                        draw(path, person - start, modality == 1, rng)
        (root / 'info' / f'{split}_name.txt').write_text(''.join(names))
        (root / 'info' / f'track_{split}_info.txt').write_text(''.join(tracks))
    return root
