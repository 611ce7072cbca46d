"""The metric of visible-infrared retrieval."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS

from mmatconv.errors import UserError
from mmatconv.retrieval.dataset import MODALITIES
from mmatconv.retrieval.ranking import evaluate_ranking

FIELDS = ('person_id', 'camera_id', 'modality', 'track_id', 'img_path')


@dataclass(frozen=True)
class Entry:
    """What is compared: an image, or the mean of a track's. `feature` (C,) has length 1."""

    feature: np.ndarray
    person: int
    camera: int
    modality: str
    track: int
    path: str


@METRICS.register_module()
class CrossModalityMetric(BaseMetric):
    """Rank-r, mAP and mINP of searching the images of one modality for those of the other, by cosine similarity.

    The rules of ranking are those of :func:`evaluate_ranking`. LLCM's code takes ``trials=10, count_identities=True``,
    MITML's on VCM ``average_tracks=True``.

    Args:
        query: Modality of the queries, 'infrared' or 'visible'; the other is the gallery. Default: 'infrared'.
        ranks: The values of r. Default: (1, 5, 20), the paper's.
        trials: How often a gallery of one image for each identity and camera is drawn, the figures being the mean; the
            draws are those of LLCM's code. 0 has one gallery of all images. Default: 0.
        count_identities: An identity has one place in a ranking, not each of its images. Default: False.
        average_tracks: Compare the mean features of tracks, not images. Default: False.
        **kwargs: MMEngine's ``collect_device`` and ``prefix``; the prefix is 'retrieval' by default.

    Raises:
        UserError: An option out of its range; in an evaluation, what the samples lack.
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        query: str = 'infrared',
        ranks: Sequence[int] = (1, 5, 20),
        trials: int = 0,
        count_identities: bool = False,
        average_tracks: bool = False,
        **kwargs: Any,
    ) -> None:
        if query not in MODALITIES:
            raise UserError(f"query of CrossModalityMetric is '{query}'; choose 'infrared' or 'visible'")
        if trials < 0 or not ranks or min(ranks) < 1:
            raise UserError(f'trials is {trials} and ranks {list(ranks)}, expected 0 or more and ranks from 1')
        super().__init__(**kwargs)
        self.query = query
        self.ranks = tuple(ranks)
        self.trials = trials
        self.count_identities = count_identities
        self.average_tracks = average_tracks

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps the features of a batch."""
        for sample in data_samples:
            missing = [name for name in ('feature', *FIELDS) if name not in sample]
            if missing:
                raise UserError(
                    f"a sample has no '{missing[0]}'; give PackInputs meta_keys={FIELDS} and the model a ReIDHead"
                )
            feature = sample['feature'].float().cpu().numpy()
            self.results.append(Entry(_unit(feature), *(sample[name] for name in FIELDS)))

    def compute_metrics(self, results: list[Entry]) -> dict[str, float]:
        """The figures in percent: 'rank1', 'rank5', 'rank20', 'mAP', 'mINP'."""
        entries = _mean_of_tracks(results) if self.average_tracks else results
        query = [entry for entry in entries if entry.modality == self.query]
        gallery = [entry for entry in entries if entry.modality != self.query]
        if not query or not gallery:
            raise UserError(
                f'there are {len(query)} {self.query} queries and {len(gallery)} images to search, expected some of '
                'each; evaluate on both modalities'
            )
        galleries = [_draw(gallery, trial) for trial in range(self.trials)] if self.trials else [gallery]
        figures = [self._evaluate(query, drawn) for drawn in galleries]
        return {name: float(np.mean([found[name] for found in figures])) for name in figures[0]}

    def _evaluate(self, query: list[Entry], gallery: list[Entry]) -> dict[str, float]:
        similarity = _features(query) @ _features(gallery).T
        return evaluate_ranking(similarity, _identities(query), _identities(gallery), self.ranks, self.count_identities)


def _unit(feature: np.ndarray) -> np.ndarray:
    return feature / max(float(np.linalg.norm(feature)), 1e-12)


def _features(entries: list[Entry]) -> np.ndarray:
    return np.stack([entry.feature for entry in entries])


def _identities(entries: list[Entry]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([entry.person for entry in entries]), np.array([entry.camera for entry in entries])


def _mean_of_tracks(entries: list[Entry]) -> list[Entry]:
    tracks: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        tracks.setdefault((entry.modality, entry.track), []).append(entry)
    means = []
    for group in tracks.values():
        first = group[0]
        feature = _unit(_features(group).mean(axis=0))
        means.append(Entry(feature, first.person, first.camera, first.modality, first.track, first.path))
    return means


def _draw(gallery: list[Entry], trial: int) -> list[Entry]:
    """One image for each identity and camera: LLCM's code seeds with the trial and draws from sorted names in order."""
    groups: dict[tuple[int, int], list[Entry]] = {}
    for entry in gallery:
        groups.setdefault((entry.person, entry.camera), []).append(entry)
    rng = random.Random(trial)
    return [rng.choice(sorted(groups[key], key=lambda entry: entry.path)) for key in sorted(groups)]
