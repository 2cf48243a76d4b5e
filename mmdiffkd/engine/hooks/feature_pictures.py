"""Pictures of the student's features before and after denoising."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdiffkd.diffusion import HeadOutput
from mmdiffkd.engine.hooks.model import distiller_of
from mmdiffkd.engine.hooks.observing import ObservingHook
from mmdiffkd.models import DiffKDDistiller
from mmdiffkd.models.preprocessing import InputFormat
from mmdiffkd.registry import HOOKS
from mmdiffkd.visualization import Level, pair_figure, to_image


@HOOKS.register_module()
class FeaturePictureHook(ObservingHook):
    """Draws the features that student and teacher are compared by, one picture per pair.

    For every image and level it shows the image, the student's feature after its projection and
    after denoising, the teacher's feature, and both distances to it. The local backend of the
    visualizer writes the pictures to ``<work_dir>/<time>/vis_data/vis_image``.

    Args:
        interval: Number of iterations between two pictures; the first iteration is drawn too.
        num_images: Number of images of the batch that are drawn.
    """

    def __init__(self, interval: int = 500, num_images: int = 2) -> None:
        super().__init__(interval)
        self.num_images = num_images
        self._inputs: Optional[Tensor] = None
        self._levels: Dict[str, Dict[int, Level]] = {}
        self._entries: Dict[str, int] = {}

    def watch(self, runner: Runner, distiller: DiffKDDistiller) -> List[RemovableHandle]:
        """Observe the prepared images as well."""
        seen_images = distiller.register_forward_pre_hook(self._see_images, with_kwargs=True)
        return [seen_images, *super().watch(runner, distiller)]

    def _see_images(self, module: nn.Module, args: Sequence, kwargs: Dict[str, Any]) -> None:
        self._inputs = kwargs['inputs'] if 'inputs' in kwargs else args[0]

    def see(self, pair: str, outputs: Mapping[int, HeadOutput]) -> None:
        """Copy the maps of the first images; those of other channels than the target's are none."""
        drawn = {i: o for i, o in outputs.items() if o.refined.shape == o.target.shape}
        if drawn:
            self._entries[pair] = max(len(output.target) for output in drawn.values())
            self._levels[pair] = {level: self._level(output) for level, output in drawn.items()}

    def _level(self, output: HeadOutput) -> Level:
        maps = map(self._first, (output.aligned, output.refined, output.target))
        gamma = output.stats.get('gamma')
        return Level(*maps, gamma=None if gamma is None else self._first(gamma))

    def _first(self, tensor: Tensor) -> np.ndarray:
        return tensor[: self.num_images].float().cpu().numpy()

    def report(self, runner: Runner) -> None:
        """Draw what was seen."""
        source, step = distiller_of(runner, self).input.format, runner.iter + 1
        for name, levels in self._levels.items():
            images = None
            # A pair behind proposals has one map for each of them; no images are shown.
            if self._entries[name] == len(self._inputs):
                images = _pixels(self._inputs[: self.num_images], source)
            figure = pair_figure(f'Pair {name}, iteration {step}', levels, images)
            runner.visualizer.add_image(f'pair_{name}', to_image(figure), step)
        self._levels, self._inputs = {}, None


def _pixels(inputs: Tensor, source: Optional[InputFormat]) -> np.ndarray:
    """Prepared images (N, C, H, W) as pixels to show, (N, H, W, 3), uint8."""
    pixels = inputs.float().cpu()
    if source is not None:
        pixels = pixels * source.std + source.mean
    if pixels.shape[1] != 3:
        pixels = pixels[:, :1].expand(-1, 3, -1, -1)
    elif source is None or not source.rgb:
        pixels = pixels.flip(1)  # the hosts load images as BGR
    # Each image from its darkest to its brightest, for some are in 0..255 and others in 0..1.
    low, high = pixels.amin((1, 2, 3), True), pixels.amax((1, 2, 3), True)
    pixels = 255 * (pixels - low) / (high - low).clamp(min=1e-12)
    return pixels.permute(0, 2, 3, 1).byte().numpy()
