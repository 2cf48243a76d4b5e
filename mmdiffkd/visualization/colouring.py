"""Features of many channels as colours."""

import numpy as np


class Colouring:
    """Turns maps into colours by the principal components of one of them.

    The first three components become red, green and blue. What has the same colours in two maps
    has about the same values in the directions in which the deciding map varies most.

    Args:
        target: The map that decides, (N, D, H, W).
    """

    # Enough to find three directions, few enough not to be waited for at 2,048 channels.
    MAX_PIXELS = 1000

    def __init__(self, target: np.ndarray) -> None:
        pixels = _pixels(target)
        self.mean = pixels.mean(0)
        sample = pixels[:: -(-len(pixels) // self.MAX_PIXELS)] - self.mean
        directions = np.linalg.svd(sample, full_matrices=False)[2][:3]
        # The sign of a direction is arbitrary; without a rule colours would flip between pictures.
        strongest = directions[range(len(directions)), np.abs(directions).argmax(1)]
        self.directions = directions * np.sign(strongest)[:, None]
        self.low, self.high = np.percentile(self._project(pixels), (2, 98), axis=0)

    def __call__(self, feature: np.ndarray) -> np.ndarray:
        """Colours of one map, (D, H, W) -> (H, W, 3) in 0..1."""
        projected = self._project(_pixels(feature[None]))
        scaled = (projected - self.low) / np.maximum(self.high - self.low, 1e-12)
        # With fewer than three channels the other colours do not vary.
        colours = np.full((len(scaled), 3), 0.5)
        colours[:, : scaled.shape[1]] = scaled.clip(0, 1)
        return colours.reshape(*feature.shape[1:], 3)

    def _project(self, pixels: np.ndarray) -> np.ndarray:
        return (pixels - self.mean) @ self.directions.T


def _pixels(maps: np.ndarray) -> np.ndarray:
    """(N, D, H, W) -> (N*H*W, D)."""
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])
