"""Batches whose augmentation follows from their number, and of which the first can be left out."""

import functools
import itertools
import random
from typing import Any, Iterable, Iterator, List, Sequence, Tuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmdiffkd.errors import ConfigError

# Each kind of position in a run has random numbers of its own.
ITERATION, EPOCH, BATCH = range(3)

_SETTINGS = (
    'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn',
    'multiprocessing_context', 'generator', 'prefetch_factor', 'persistent_workers',
    'pin_memory_device',
)  # fmt: skip


def seed_generators(seed: int, kind: int, *position: int) -> None:
    """Seed Python, NumPy and torch from a kind of position and its numbers from 0."""
    # The spawn key is how NumPy derives independent streams from one seed.
    words = np.random.SeedSequence(seed, spawn_key=(kind, *position)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)


class NumberedBatches:
    """A batch sampler of pairs (arguments of :func:`seed_generators`, indices of the samples).

    ``epoch`` is part of the seed, ``first`` the number of the first batch to yield. Endless batches
    are shuffled anew for each pass.
    """

    def __init__(self, batches: Iterable, seed: int, rank: int, endless: bool) -> None:
        self.batches, self.seed, self.rank, self.endless = batches, seed, rank, endless
        self.epoch = self.first = 0
        self.sampler = getattr(batches, 'sampler', None)
        self.batch_size = getattr(batches, 'batch_size', None)

    def __iter__(self) -> Iterator[Tuple[Tuple[int, ...], Sequence[int]]]:
        # The batches that are left out are made all the same, as batch samplers can have a memory
        # (mmdet's sorts by aspect ratio). It is loading them that takes time.
        for number, indices in enumerate(self._all()):
            if number >= self.first:
                yield (self.seed, BATCH, self.rank, self.epoch, number), indices

    def _all(self) -> Iterator[Sequence[int]]:
        yield from self.batches
        if self.endless and len(self.batches) == 0:
            raise ConfigError('train_dataloader yields no batch: the data set is too small')
        for number in itertools.count(1) if self.endless else ():
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(number)
            yield from self.batches

    def __len__(self) -> int:
        return len(self.batches)


def numbered(dataloader: DataLoader, seed: int, rank: int, endless: bool) -> DataLoader:
    """A loader of the same data set whose augmentation follows from the batch's number alone.

    Its ``batch_sampler`` is a :class:`NumberedBatches` around that of ``dataloader``.
    """
    dataset = dataloader.dataset
    # torch's way to load a whole batch; the worker that does it seeds its generators first.
    dataset.__getitems__ = functools.partial(_load, dataset)
    return DataLoader(
        dataset,
        batch_sampler=NumberedBatches(dataloader.batch_sampler, seed, rank, endless),
        **{name: getattr(dataloader, name) for name in _SETTINGS},
    )


def _load(dataset: Sequence, batch: Tuple[Tuple[int, ...], Sequence[int]]) -> List[Any]:
    position, indices = batch
    seed_generators(*position)
    whole = getattr(type(dataset), '__getitems__', None)
    return [dataset[index] for index in indices] if whole is None else whole(dataset, indices)
