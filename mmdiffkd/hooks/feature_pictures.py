"""Pictures of what distillation makes of the student's features."""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.distillers import DiffKDDistiller
from mmdiffkd.distillers.preprocessing import InputFormat
from mmdiffkd.registry import HOOKS
from mmdiffkd.visualization import Level, pair_figure, to_image

from .observing import ObservingHook, distiller_of


@HOOKS.register_module()
class FeaturePictureHook(ObservingHook):
    """Draws the features that student and teacher are compared by, one picture per pair.

    Per image and level: the image, the student's feature after its projection, the same after
    denoising, the teacher's, and how far both are from it. The pictures go to all backends of the
    visualizer as ``features_<pair>``; the local one writes them to
    ``<work_dir>/<time>/vis_data/vis_image``.

    Args:
        interval: In iterations; the first is drawn too, as the state before learning.
        num_images: How many of the batch are drawn.
    """

    def __init__(self, interval: int = 500, num_images: int = 2) -> None:
        super().__init__(interval)
        if not isinstance(num_images, int) or num_images < 1:
            raise ValueError(
                f'FeaturePictureHook: num_images must be a positive integer, got {num_images!r}'
            )
        self.num_images = num_images
        self._inputs: Optional[Tensor] = None
        self._levels: Dict[str, List[Level]] = {}
        self._entries: Dict[str, int] = {}

    def watch(self, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Look at the prepared images as well."""
        seen_images = distiller.register_forward_pre_hook(self._see_images, with_kwargs=True)
        return [seen_images, *super().watch(distiller)]

    def _see_images(self, module: torch.nn.Module, args: Sequence, kwargs: Dict[str, Any]) -> None:
        self._inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]

    def see(self, pair: str, outputs: Sequence[HeadOutput]) -> None:
        """Copy the first images' part of the maps."""
        self._entries[pair] = len(outputs[0].target)
        self._levels[pair] = [
            Level(
                *map(self._first, (output.aligned, output.refined, output.target)),
                gamma=None if output.gamma is None else self._first(output.gamma),
            )
            for output in outputs
        ]

    def _first(self, tensor: Tensor) -> np.ndarray:
        return tensor[: self.num_images].float().cpu().numpy()

    def _pixels(self, preprocessor: torch.nn.Module) -> np.ndarray:
        """The first images as (N, H, W, 3), uint8, whatever was subtracted and divided."""
        pixels = self._inputs[: self.num_images].float().cpu()
        source = InputFormat.of(preprocessor)
        pixels = pixels * source.std.cpu() + source.mean.cpu()
        if not source.flips_channels:
            pixels = pixels.flip(1)  # the hosts load images as BGR
        # Each image from its darkest to its brightest: some are in 0..255, others in 0..1.
        low, high = pixels.amin((1, 2, 3), True), pixels.amax((1, 2, 3), True)
        pixels = 255 * (pixels - low) / (high - low).clamp(min=1e-12)
        # Of one channel make three, of more take three.
        return pixels[:, :3].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).byte().numpy()

    def report(self, runner: Runner) -> None:
        """Draw what was seen."""
        step = runner.iter + 1
        images = None
        for name, levels in self._levels.items():
            if images is None:
                images = self._pixels(distiller_of(runner).data_preprocessor)
            # A pair behind proposals has a row per proposal, which is no picture.
            own_images = images if self._entries[name] == len(self._inputs) else None
            figure = pair_figure(f'Pair {name}, iteration {step}', levels, own_images)
            runner.visualizer.add_image(f'features_{name}', to_image(figure), step)
        self._inputs, self._levels = None, {}
