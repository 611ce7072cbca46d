"""Batches of P identities with K visible and K infrared images each."""

import math
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmpretrain.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from mmatconv.errors import UserError
from mmatconv.retrieval.dataset import MODALITIES


@DATA_SAMPLERS.register_module()
class IdentitySampler(Sampler):
    """Orders a :class:`CrossModalityDataset` by identity: K visible and K infrared images of one, then of the next.

    ``batch_size`` of the data loader is thus 2 x K x P. Identities come in a random order, all of them before one
    comes again; those without an image of either modality never come. Images of an identity are drawn without one
    coming twice, unless it has fewer than K of a modality. An epoch has as many images as the data set, at most one
    group of 2 x K more for each process. The order depends on seed and epoch alone; each process has groups of its own.

    Args:
        dataset: The data set.
        images: K. Default: 4.
        seed: Default: MMEngine's, the same in all processes.

    Raises:
        UserError: K is below 1, or fewer than two identities have both modalities.
    """

    def __init__(self, dataset: Sized, images: int = 4, seed: int | None = None) -> None:
        if images < 1:
            raise UserError(f'images of IdentitySampler is {images}, expected 1 or more')
        self.rank, self.world_size = get_dist_info()
        self.images = images
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.groups = _indices_by_identity(dataset)
        if len(self.groups) < 2:
            raise UserError(
                f'{len(self.groups)} identities have visible and infrared images, expected 2 or more; complete the '
                'data set'
            )
        # Rounded up, so that all processes have equally many.
        self.count = math.ceil(len(dataset) / (2 * images * self.world_size))

    def __iter__(self) -> Iterator[int]:
        """The indices of this process for one epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        wanted = self.count * self.world_size
        rounds = math.ceil(wanted / len(self.groups))
        order = np.concatenate([rng.permutation(len(self.groups)) for _ in range(rounds)])[:wanted]
        for number, group in enumerate(order):
            # Drawn for all processes, so that none has what another has.
            drawn = [self._draw(rng, indices) for indices in self.groups[group]]
            if number % self.world_size == self.rank:
                yield from np.concatenate(drawn).tolist()

    def _draw(self, rng: np.random.Generator, indices: np.ndarray) -> np.ndarray:
        return np.resize(rng.permutation(indices), self.images)

    def __len__(self) -> int:
        """Images of this process in an epoch."""
        return self.count * 2 * self.images

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next; MMEngine calls it."""
        self.epoch = epoch


def _indices_by_identity(dataset: Any) -> list[list[np.ndarray]]:
    """For each identity that has both, the indices of its visible and of its infrared images."""
    found: dict[int, dict[str, list[int]]] = {}
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        found.setdefault(sample['person_id'], {name: [] for name in MODALITIES})[sample['modality']].append(index)
    return [
        [np.array(indices) for indices in found[person].values()]
        for person in sorted(found)
        if all(found[person].values())
    ]
