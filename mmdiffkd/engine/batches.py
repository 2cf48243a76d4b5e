"""Batches that know their number: loaded the same in every run, and skipped without loading."""

import functools
import itertools
from typing import Any, Iterable, Iterator, List, Sequence, Tuple

from torch.utils.data import DataLoader

from mmdiffkd.engine.seeding import BATCH, seed_generators

# Of a data loader, beside data set and batch sampler.
_SETTINGS = (
    'num_workers',
    'collate_fn',
    'pin_memory',
    'timeout',
    'worker_init_fn',
    'multiprocessing_context',
    'generator',
    'prefetch_factor',
    'persistent_workers',
    'pin_memory_device',
)


class NumberedBatch(List[int]):
    """Indices of a batch's samples.

    Attributes:
        seed: Of the run.
        position: Of the batch in it: process, epoch, number.
    """

    seed: int
    position: Tuple[int, int, int]


class NumberedBatches:
    """A batch sampler whose batches are numbered.

    Args:
        batches: The batch sampler to go through.
        seed: Of the run.
        rank: Of the process.
        endless: Start again when it is exhausted, its ``sampler`` shuffling as for the next epoch.

    Attributes:
        epoch: Part of the batches' position; whoever goes through one epoch at a time sets it.
        first: Number of the batch to begin with.
    """

    def __init__(
        self, batches: Iterable[Sequence[int]], seed: int, rank: int, endless: bool
    ) -> None:
        self.batches = batches
        self.seed = seed
        self.rank = rank
        self.endless = endless
        self.epoch = 0
        self.first = 0

    def __iter__(self) -> Iterator[NumberedBatch]:
        for number, indices in enumerate(self._all()):
            # Batch samplers have a memory (mmdet's sorts by aspect ratio), so that earlier batches
            # are made in any case; what takes time is loading them.
            if number >= self.first:
                batch = NumberedBatch(indices)
                batch.seed = self.seed
                batch.position = (self.rank, self.epoch, number)
                yield batch

    def _all(self) -> Iterator[Sequence[int]]:
        yield from self.batches
        sampler = getattr(self.batches, 'sampler', None)
        for epoch in itertools.count(1) if self.endless else ():
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
            yield from self.batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        # `sampler` and `batch_size` are what mmengine looks for.
        if name == 'batches':
            raise AttributeError(name)
        return getattr(self.batches, name)


def numbered(dataloader: DataLoader, seed: int, rank: int, endless: bool) -> DataLoader:
    """A data loader of the same data whose augmentation depends on the number of the batch alone.

    Whichever worker loads a batch seeds its generators for it first. The data set stays the same
    object, as hooks change its pipeline; it is told to load whole batches, as torch offers.

    Args:
        dataloader: With a batch sampler, not in use yet.
        seed: See :class:`NumberedBatches`, as for the others.
        rank: Of the process.
        endless: Whether to start again after the last batch.

    Returns:
        The new one. Its ``batch_sampler`` is a :class:`NumberedBatches`.
    """
    dataset = dataloader.dataset
    dataset.__getitems__ = functools.partial(_load, dataset)
    return DataLoader(
        dataset,
        batch_sampler=NumberedBatches(dataloader.batch_sampler, seed, rank, endless),
        **{name: getattr(dataloader, name) for name in _SETTINGS},
    )


def _load(dataset: Sequence, batch: NumberedBatch) -> List:
    seed_generators(batch.seed, BATCH, *batch.position)
    whole = getattr(type(dataset), '__getitems__', None)
    return [dataset[index] for index in batch] if whole is None else whole(dataset, batch)


class AdvancedBatches:
    """The batches of an endless data loader, for a loop that believes it must skip the first ones.

    mmengine resumes by going through all batches that were trained on; depending on its version it
    loads them all. Here they are skipped already, by :attr:`NumberedBatches.first`.

    Args:
        dataloader: What :func:`numbered` returns.
        passed: How many batches the loop is going to skip.
    """

    def __init__(self, dataloader: DataLoader, passed: int) -> None:
        self._batches = None
        self._dataloader = dataloader
        self._passed = passed

    def __iter__(self) -> 'AdvancedBatches':
        return self

    def skip_iter(self, num_iters: int) -> None:
        """How newer versions of mmengine skip."""
        self._passed -= num_iters

    def __next__(self) -> Any:
        if self._passed > 0:
            # How older ones do it; they throw away what they get.
            self._passed -= 1
            return None
        if self._batches is None:
            self._batches = iter(self._dataloader)
        return next(self._batches)
