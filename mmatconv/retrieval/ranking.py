"""Rank-r, mAP and mINP of a ranking, as the field defines them."""

from collections.abc import Sequence

import numpy as np

from mmatconv.errors import UserError


def evaluate_ranking(
    similarity: np.ndarray,
    query: tuple[np.ndarray, np.ndarray],
    gallery: tuple[np.ndarray, np.ndarray],
    ranks: Sequence[int],
    count_identities: bool,
) -> dict[str, float]:
    """Score how the gallery is ordered for each query.

    Images of the query's own identity from its own camera are no part of its gallery. Queries whose identity is not in
    what remains count for nothing. Of equally similar images the first in the gallery comes first.

    - rank-r: the share of queries with an image of their identity among the first r.
    - mAP: the mean over queries of the average precision.
    - mINP: the mean of the inverse negative penalty, the number of matches over the place of the last one
      (arXiv 2001.04193).

    Args:
        similarity: (Q, G); the larger the more alike.
        query: Identities (Q,) and cameras (Q,).
        gallery: Identities (G,) and cameras (G,).
        ranks: The values of r.
        count_identities: For rank-r, an identity has one place, that of its first image, as in LLCM's code; otherwise
            each image has its own.

    Returns:
        In percent: 'rank1' for each r, 'mAP', 'mINP'.

    Raises:
        UserError: No query has a match.
    """
    places, precisions, penalties = [], [], []
    persons, cameras = gallery
    for scores, person, camera in zip(similarity, *query):
        order = np.argsort(-scores, kind='stable')
        order = order[(persons[order] != person) | (cameras[order] != camera)]
        ranking = persons[order]
        matches = np.flatnonzero(ranking == person)
        if not matches.size:
            continue
        first = matches[0]
        places.append(len(np.unique(ranking[:first])) if count_identities else first)
        precisions.append(np.mean(np.arange(1, matches.size + 1) / (matches + 1)))
        penalties.append(matches.size / (matches[-1] + 1))
    if not places:
        raise UserError(
            'no query has an image of its identity from another camera in the gallery; evaluate on a data set that has '
            'both modalities of its identities'
        )
    found = {f'rank{r}': np.mean(np.array(places) < r) for r in ranks}
    return {
        name: 100 * float(value)
        for name, value in dict(found, mAP=np.mean(precisions), mINP=np.mean(penalties)).items()
    }
