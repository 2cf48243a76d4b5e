"""Batches that know their number."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from mmdiffkd.engine.batches import BATCH, EPOCH, ITERATION, numbered, seed_generators
from mmdiffkd.errors import ConfigError


class Draws:
    """Samples that are a draw from each generator."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


class WholeBatches(Draws):
    """As torch's own ``Subset``: it loads a batch at once."""

    def __getitems__(self, indices):
        return [(*self[index], 'whole') for index in indices]


def loader(dataset, sampler=DefaultSampler, endless=False, rank=0, seed=3, **settings):
    batches = BatchSampler(sampler(dataset, shuffle=True, seed=7), batch_size=3, drop_last=False)
    plain = DataLoader(dataset, batch_sampler=batches, collate_fn=list, **settings)
    return numbered(plain, seed, rank, endless)


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
def test_endless(sampler):
    """Passes of a finite sampler are shuffled anew; numbers go on."""
    every, rest = loader(Draws(), sampler, endless=True), loader(Draws(), sampler, endless=True)
    rest.batch_sampler.first = 7
    batches = [batch for batch, _ in zip(every, range(12))]
    assert batches[7:] == [batch for batch, _ in zip(rest, range(5))]
    assert len({draw for batch in batches for _, draw, *_ in batch}) == sum(map(len, batches))
    order = [index for batch in batches for index, *_ in batch]
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10] != order[10:20]


def test_draws_differ_between_processes_epochs_and_seeds():
    first, rest = list(loader(Draws())), loader(Draws())
    rest.batch_sampler.first = 2
    assert len(rest) == len(first) == 4 and list(rest) == first[2:]
    other_epoch = loader(Draws())
    other_epoch.batch_sampler.epoch = 1
    for other in (loader(Draws(), rank=1), loader(Draws(), seed=4), other_epoch):
        for batch, different in zip(first, other):
            for sample, unlike in zip(batch, different):
                assert sample[0] == unlike[0]
                assert not set(sample[1:]) & set(unlike[1:])


def test_dataset_that_loads_whole_batches_in_workers_that_are_not_forked():
    numbers = loader(WholeBatches())
    dataset, batch = pickle.loads(
        pickle.dumps((numbers.dataset, next(iter(numbers.batch_sampler))))
    )
    assert dataset.__getitems__(batch) == next(iter(numbers))
    assert all(sample[-1] == 'whole' for sample in next(iter(numbers)))


def test_endless_without_any_batch():
    with pytest.raises(ConfigError, match='train_dataloader yields no batch'):
        next(iter(numbered(DataLoader(Draws(), batch_size=11, drop_last=True), 0, 0, endless=True)))


def test_positions_have_numbers_of_their_own():
    rest = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
    draws = set()
    for seed, kind, numbers in itertools.product((0, 1), (ITERATION, EPOCH, BATCH), rest):
        seed_generators(seed, kind, *numbers)
        draws |= {random.random(), np.random.rand(), torch.rand(()).item()}
    assert len(draws) == 3 * 2 * 3 * len(rest)
