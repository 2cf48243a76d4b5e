"""Random states that follow from the position in a run, so that none has to be saved."""

import random

import numpy as np
import torch

# Each kind of position has random numbers of its own.
ITERATION, EPOCH, BATCH = range(3)


def seed_generators(seed: int, kind: int, *position: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from a position in a run.

    Args:
        seed: Seed of the run.
        kind: :data:`ITERATION`, :data:`EPOCH` or :data:`BATCH`.
        position: Non-negative integers, such as the process's rank and the iteration.
    """
    # The spawn key is how NumPy derives independent streams from one seed.
    words = np.random.SeedSequence(seed, spawn_key=(kind, *position)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)
