"""Differences between trainings with the same seeds, and which of them chance does not explain."""

import math
import statistics
from typing import Dict, List, NamedTuple, Optional


class Difference(NamedTuple):
    """The difference between two methods.

    Attributes:
        seeds: Number of seeds that both have.
        mean: Mean of the differences.
        low: Lower end of the 95 % interval of the mean (Student's t); None for a single seed.
        high: Upper end, likewise.
        p: Probability of a mean that is at least as far from 0 if the true one is 0.
    """

    seeds: int
    mean: float
    low: Optional[float] = None
    high: Optional[float] = None
    p: float = 1.0


def difference(first: Dict[int, float], second: Dict[int, float]) -> Optional[Difference]:
    """``first`` minus ``second``, both by their seeds, or None if they have no seed in common."""
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return None
    mine, others = ([values[seed] for seed in seeds] for values in (first, second))
    mean = statistics.fmean(mine) - statistics.fmean(others)
    if len(seeds) == 1:
        return Difference(1, mean)
    from scipy.stats import ttest_rel  # takes a second, and no other tool needs it

    found = ttest_rel(mine, others)
    # Without any difference it is NaN.
    p = 1.0 if math.isnan(found.pvalue) else float(found.pvalue)
    return Difference(len(seeds), mean, *map(float, found.confidence_interval(0.95)), p)


def holm(probabilities: Dict[str, float]) -> List[str]:
    """The names that remain at 5 % for all of them together (the method of Holm)."""
    kept: List[str] = []
    for name in sorted(probabilities, key=probabilities.__getitem__):
        if probabilities[name] > 0.05 / (len(probabilities) - len(kept)):
            break
        kept.append(name)
    return kept
