"""Random states that follow from where a run is, so that none has to be saved."""

import random

import numpy as np
import torch

# Each kind of position gives random numbers of its own.
ITERATION, EPOCH, BATCH = range(3)


def seed_generators(seed: int, kind: int, *position: int) -> None:
    """Seed the generators of Python, NumPy and torch, on all devices, from a position in a run.

    A random state that was saved is right for one process, for the moment of saving, and if
    nothing draws between loading and going on. One that is a function of the position is right
    for every process at any time, whatever was drawn in between, by a validation for example.

    Args:
        seed: Of the run.
        kind: :data:`ITERATION`, :data:`EPOCH` or :data:`BATCH`.
        position: Non-negative integers: the process, the iteration...
    """
    # The spawn key is how NumPy derives independent streams from one seed.
    words = np.random.SeedSequence(seed, spawn_key=(kind, *position)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # On a GPU this is remembered until the device is first used.
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)
