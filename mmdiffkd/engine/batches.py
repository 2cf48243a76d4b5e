"""Numbered batches: augmentation follows from the number, and the first can be left out."""

import functools
from typing import Any, Iterable, Iterator, List, Sequence, Tuple

from torch.utils.data import DataLoader

from mmdiffkd.engine.seeding import BATCH, seed_generators
from mmdiffkd.errors import ConfigError

_SETTINGS = (
    'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn',
    'multiprocessing_context', 'generator', 'prefetch_factor', 'persistent_workers',
    'pin_memory_device',
)  # fmt: skip


class NumberedBatch(List[int]):
    """Indices of a batch's samples, with the run's ``seed`` and the batch's ``position``.

    The position is the process's rank, the epoch, and the batch's number in the epoch.
    """

    seed: int
    position: Tuple[int, int, int]


class NumberedBatches:
    """A batch sampler whose batches are numbered.

    The arguments are those of :func:`numbered`. An endless one is shuffled for each pass anew.

    Attributes:
        epoch: Epoch in the batches' position.
        first: Number of the first batch to yield.
    """

    def __init__(
        self, batches: Iterable[Sequence[int]], seed: int, rank: int, endless: bool
    ) -> None:
        self.batches, self.seed, self.rank, self.endless = batches, seed, rank, endless
        self.epoch = self.first = 0
        self.sampler = getattr(batches, 'sampler', None)
        self.batch_size = getattr(batches, 'batch_size', None)

    def __iter__(self) -> Iterator[NumberedBatch]:
        # The batches that are left out are made all the same, as batch samplers can have a memory
        # (mmdet's sorts by aspect ratio). It is loading them that takes time.
        for number, indices in enumerate(self._all()):
            if number >= self.first:
                batch = NumberedBatch(indices)
                batch.seed, batch.position = self.seed, (self.rank, self.epoch, number)
                yield batch

    def _all(self) -> Iterator[Sequence[int]]:
        passes = 0
        while True:
            empty = True
            for indices in self.batches:
                empty = False
                yield indices
            if not self.endless:
                return
            if empty:
                raise ConfigError('train_dataloader yields no batch: the data set is too small')
            passes += 1
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(passes)

    def __len__(self) -> int:
        return len(self.batches)


def numbered(dataloader: DataLoader, seed: int, rank: int, endless: bool) -> DataLoader:
    """A data loader of the same data whose augmentation follows from the batch's number alone.

    Args:
        dataloader: Data loader with a batch sampler, not in use yet.
        seed: Seed of the run.
        rank: Rank of the process.
        endless: Whether to start again after the last batch.

    Returns:
        A loader of the same data set object, whose ``batch_sampler`` is a
        :class:`NumberedBatches`.
    """
    dataset = dataloader.dataset
    # torch's way to load a whole batch; the worker that does it seeds its generators first.
    dataset.__getitems__ = functools.partial(_load, dataset)
    return DataLoader(
        dataset,
        batch_sampler=NumberedBatches(dataloader.batch_sampler, seed, rank, endless),
        **{name: getattr(dataloader, name) for name in _SETTINGS},
    )


def _load(dataset: Sequence, batch: NumberedBatch) -> List[Any]:
    seed_generators(batch.seed, BATCH, *batch.position)
    whole = getattr(type(dataset), '__getitems__', None)
    return [dataset[index] for index in batch] if whole is None else whole(dataset, batch)
