"""Paired differences: their mean, their interval, and whether chance explains them."""

import math
import statistics
from typing import Dict, List, NamedTuple, Optional, Sequence


class Paired(NamedTuple):
    """Differences between pairs of measurements.

    Attributes:
        mean: Mean of the differences.
        low: Lower end of the 95 % interval of the mean (Student's t); None for a single difference.
        high: Upper end, likewise.
        p: Probability of a mean that is at least as far from 0 if the true one is 0, likewise.
    """

    mean: float
    low: Optional[float] = None
    high: Optional[float] = None
    p: Optional[float] = None


def paired(differences: Sequence[float]) -> Paired:
    """The statistics of at least one difference."""
    mean, freedom = statistics.fmean(differences), len(differences) - 1
    if freedom == 0 or not math.isfinite(mean):
        return Paired(mean)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if error == 0:
        return Paired(mean, mean, mean, float(mean == 0))
    half = error * t_quantile(0.95, freedom)
    return Paired(mean, mean - half, mean + half, 1 - t_inside(abs(mean) / error, freedom))


def t_inside(t: float, freedom: int) -> float:
    """The probability that Student's t lies between -t and t, for whole degrees of freedom.

    The finite sums are those of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total


def t_quantile(inside: float, freedom: int) -> float:
    """The t for which :func:`t_inside` is ``inside``."""
    low, high = 0.0, 1.0
    while t_inside(high, freedom) < inside:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_inside(middle, freedom) < inside else (low, middle)
    return high


def holm(probabilities: Dict[str, float]) -> List[str]:
    """The names that remain at 5 % for all of them together (the method of Holm)."""
    kept: List[str] = []
    for name in sorted(probabilities, key=probabilities.__getitem__):
        if probabilities[name] > 0.05 / (len(probabilities) - len(kept)):
            break
        kept.append(name)
    return kept
