"""Random numbers that depend on the seed, the process and the iteration alone, not on what was drawn before.

A training that goes on from a checkpoint thus draws what it would have drawn without the interruption, and no state of
a generator has to be saved: neither this process's nor those of the data workers, which have read ahead.
"""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler

from mmatconv.errors import UserError

# The streams of a run: one for loading a batch, one for the training step on it.
LOADING, STEP = 0, 1


def seed_everything(seed: int, rank: int, stream: int, number: int) -> None:
    """Seeds Python's, NumPy's and torch's generators for one batch or one step.

    Args:
        seed: The seed of the run.
        rank: Which process; each draws numbers of its own.
        stream: LOADING or STEP.
        number: Which iteration, from 0.
    """
    words = np.random.SeedSequence([seed, rank, stream, number]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:2])
    low, high = (int(word) for word in words[2:])
    # torch.manual_seed would queue a stack trace for a CUDA that is not up, at a millisecond a call.
    torch.default_generator.manual_seed(low + (high << 32))
    if torch.cuda.is_initialized() and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(low + (high << 32))


class NumberedBatches(Sampler):
    """A batch sampler whose batches carry the number of their iteration, and which can begin anywhere.

    Args:
        batch_sampler: Gives the batches.
        sampler: What orders the samples in it; ``set_epoch`` is called on it at the end of an endless one's epoch.
        endless: Begin the next epoch after the last batch, as iteration-based training does.
    """

    def __init__(self, batch_sampler: Sampler, sampler: Sampler, endless: bool) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = sampler
        self.endless = endless
        self.batch_size = getattr(batch_sampler, 'batch_size', None)
        self._number = self._skip = 0

    def start(self, number: int, skip: int = 0) -> None:
        """Says where the next iteration over it begins.

        Args:
            number: The number of its first batch.
            skip: How many batches were seen already; their indices are drawn, and nothing is loaded. Default: 0.
        """
        self._number, self._skip = number, skip

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator['Batch']:
        number = self._number
        for indices in itertools.islice(self._all(), self._skip, None):
            yield Batch(indices, number)
            number += 1

    def _all(self) -> Iterator[list[int]]:
        yield from self.batch_sampler
        for epoch in itertools.count(1) if self.endless else ():
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            before = None
            for before in self.batch_sampler:
                yield before
            if before is None:
                raise UserError(f'{type(self.sampler).__name__} gives no batch of {self.batch_size}; lower batch_size')


class Batch(list):
    """The indices of a batch, and the number of the iteration it is for."""

    def __init__(self, indices: Any = (), number: int = 0) -> None:
        super().__init__(indices)
        self.number = number


class SeededItems:
    """Loads the samples of a :class:`Batch`, whichever worker is asked to, with the random numbers of its iteration."""

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank
        self.inner = getattr(dataset, '__getitems__', None)

    def __call__(self, indices: list[int]) -> list:
        """The samples; plain lists of indices are loaded without seeding."""
        if isinstance(indices, Batch):
            seed_everything(self.seed, self.rank, LOADING, indices.number)
        return self.inner(list(indices)) if self.inner else [self.dataset[index] for index in indices]


def number_batches(loader: DataLoader, seed: int, rank: int, endless: bool) -> NumberedBatches | None:
    """Makes what a data loader loads depend on the seed, the process and the iteration alone.

    Args:
        loader: The data loader; changed in place.
        seed: The seed of the run.
        rank: This process.
        endless: Whether epochs follow each other without end.

    Returns:
        What numbers its batches; None for a data set that cannot be indexed, whose loader stays as it is.
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        return None
    inner = loader.batch_sampler
    # A loader built with a batch_sampler names torch's default as its sampler; the one that counts is inside.
    batches = NumberedBatches(inner, getattr(inner, 'sampler', loader.sampler), endless)
    # A loader refuses another batch sampler once it is built; built with one, it would lose its batch_size.
    vars(loader)['batch_sampler'] = batches
    # torch asks a data set for a whole batch where it has this method.
    loader.dataset.__getitems__ = SeededItems(loader.dataset, seed, rank)
    return batches
