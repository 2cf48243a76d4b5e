"""How well a trained noise predictor denoises the features of the teacher: computed and drawn."""

import copy
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor

from mmdiffkd.apis.launch import TRAINING_KEYS, check_complete, merge_options
from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file, weights_only
from mmdiffkd.checkpoints.weights import load_strictly
from mmdiffkd.diffusion import DiffKDHead, HeadOutput, add_noise, ddim_denoise, ddim_steps
from mmdiffkd.diffusion import linear_alphas_cumprod as alphas_cumprod
from mmdiffkd.engine.runner import complete_model
from mmdiffkd.errors import CheckpointError, ConfigError
from mmdiffkd.models import DiffKDDistiller, DistillPair
from mmdiffkd.models.configs import load_config
from mmdiffkd.visualization.canvas import GREY, colouring, new_figure, ordered_colours, tidy
from mmdiffkd.visualization.features import draw_bars, shown_channels

_NUM_LEVELS = 20
_PICTURES = 6


class NoiseSweep(NamedTuple):
    """Teacher features with noise of several levels, denoised by a head.

    Attributes:
        timesteps: Noise levels, integers in ``0..T-1``, ascending, (L,).
        start: Timestep from which the head denoises student features.
        target: Clean feature, (N, D, H, W).
        noisy: Feature with noise of each level, (L, N, D, H, W).
        denoised: Feature after the DDIM steps from each level, (L, N, D, H, W).
        prediction_error: Squared error of the predicted noise, (L,); it is 1 for predicting zero.
    """

    timesteps: np.ndarray
    start: int
    target: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    prediction_error: np.ndarray

    def relative_error(self, feature: np.ndarray) -> np.ndarray:
        """Squared error over the target's variance, (L,); it is 1 for the mean feature."""
        variance = self.target.var(axis=(0, 2, 3)).mean()
        return ((feature - self.target) ** 2).mean(axis=(1, 2, 3, 4)) / variance


def noise_sweep_figure(title: str, sweeps: Sequence[NoiseSweep]) -> Figure:
    """Errors of the noise predictor over the noise level, and pictures of one feature.

    Args:
        title: Title of the figure.
        sweeps: Sweeps of the levels of a pair, over the same timesteps; the first is pictured.
    """
    figure = new_figure(title, 9, 5.6)
    above, below = figure.subfigures(2, 1, height_ratios=(3.8, 2.4))
    prediction, feature = above.subplots(1, 2)
    _draw_errors(prediction, feature, sweeps)
    _draw_maps(below, sweeps[0])
    return figure


def _draw_errors(prediction: Axes, feature: Axes, sweeps: Sequence[NoiseSweep]) -> None:
    start = sweeps[0].start
    for number, (sweep, colour) in enumerate(zip(sweeps, ordered_colours(len(sweeps)))):
        label = f'level {number}'
        prediction.plot(sweep.timesteps, sweep.prediction_error, color=colour, label=label)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.noisy), '--', color=colour)
        feature.plot(sweep.timesteps, sweep.relative_error(sweep.denoised), color=colour)
    prediction.set(ylabel='mean squared error of the noise', title='Is the noise found?')
    feature.set(
        ylabel='distance to teacher / variance', title='Does denoising recover the feature?'
    )
    for axes, reference in ((prediction, 'predicting zero'), (feature, 'the mean feature')):
        axes.axhline(1, color=GREY, linestyle=':')
        style = dict(fontsize=8, color=GREY, ha='right', va='bottom')
        axes.text(sweeps[0].timesteps[-1], 1.01, reference, **style)
        axes.axvline(start, color=GREY, linewidth=0.8, label=f'students start at t = {start}')
        axes.set_xlabel('noise level t', fontsize=9)
        tidy(axes)
    # The scale ignores the denoised feature, which may diverge at unusually high noise.
    highest = max(sweep.relative_error(sweep.noisy).max() for sweep in sweeps)
    feature.set_ylim(0, 1.2 * max(highest, 1))
    prediction.set_ylim(bottom=0)
    feature.plot([], [], 'k--', label='noisy')
    feature.plot([], [], 'k-', label='denoised')
    for axes in (prediction, feature):
        axes.legend(fontsize=9, frameon=False)


def _draw_maps(figure: SubFigure, sweep: NoiseSweep) -> None:
    wanted = np.linspace(0, 1.5 * sweep.start, _PICTURES)
    shown = np.abs(sweep.timesteps - wanted[:, None]).argmin(1)
    rows = figure.subplots(2, _PICTURES + 1)
    for row, maps, name in zip(rows, (sweep.noisy, sweep.denoised), ('noisy', 'denoised')):
        row[0].set_ylabel(name, fontsize=11)
        _draw_features(row, [*maps[shown, 0], sweep.target[0]], sweep.target)
    for axes, title in zip(rows[0], [*(f't = {t}' for t in sweep.timesteps[shown]), 'teacher']):
        axes.set_title(title, fontsize=10)
    for axes in rows.ravel():
        axes.set(xticks=[], yticks=[])


def _draw_features(row: Sequence[Axes], features: List[np.ndarray], target: np.ndarray) -> None:
    if target.shape[2:] == (1, 1):
        channels, limit = shown_channels(target[0]), 2 * np.abs(target[0]).max()
        draw_bars(row, [feature[channels].clip(-limit, limit) for feature in features])
        return
    colours_of = colouring(target)
    for axes, feature in zip(row, features):
        axes.imshow(colours_of(feature), interpolation='nearest')


def draw_noise_sweep(
    config: str,
    checkpoint: str,
    out: Union[str, Path],
    pair: Optional[str] = None,
    seed: int = 0,
    trust_checkpoint: bool = False,
    cfg_options: Optional[Dict[str, Any]] = None,
) -> str:
    """Draw the errors of a noise predictor over the noise level.

    Args:
        config: Config of the distillation, a path or a ``library::name``.
        checkpoint: Path or URL of a checkpoint of the distillation.
        out: Image to write.
        pair: Name of the pair, by default the first that denoises.
        seed: Seed of the batch and of the noise.
        trust_checkpoint: Whether to unpickle whatever the checkpoint contains.
        cfg_options: Overrides of the config.

    Returns:
        A sentence on what was written.
    """
    cfg = load_config(config, 'config')
    merge_options(cfg, cfg_options or {})
    check_complete(cfg, TRAINING_KEYS)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    distiller = _build_trained(cfg, checkpoint, trust_checkpoint)
    chosen = _choose_pair(distiller, pair)
    set_random_seed(seed)
    sweeps = []
    for head, target in zip(chosen.heads, _targets(distiller, chosen, cfg, seed)):
        timesteps = np.linspace(0, len(head.signal_scale) - 1, _NUM_LEVELS).round().astype(int)
        sweeps.append(sweep_noise(head, target, timesteps.tolist()))
    title = f"Pair {chosen.name}: the teacher's features, noisy and denoised"
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    noise_sweep_figure(title, sweeps).savefig(out)
    return f'Figure of pair {chosen.name} ({len(sweeps)} levels) written to {out}'


@torch.no_grad()
def sweep_noise(head: DiffKDHead, target: Tensor, timesteps: Sequence[int]) -> NoiseSweep:
    """Add noise of several levels to a teacher feature, and denoise it from each level.

    All levels share one draw of the noise. The step length of DDIM and the batch statistics of
    batch norms are those of training. The head is not changed.

    Args:
        head: Trained head.
        target: Teacher feature in the width of the diffusion (``HeadOutput.target``), (N, D, H, W).
        timesteps: Noise levels, integers in ``0..T-1``, ascending.
    """
    denoiser = copy.deepcopy(head.denoiser).train()
    num_timesteps = len(head.signal_scale)
    stride = num_timesteps // (2 * len(head.steps))
    noise = torch.randn_like(target)
    noisy, denoised, errors = [], [], []
    for timestep in timesteps:
        level = torch.full((len(target),), timestep, device=target.device)
        noisy.append(add_noise(target, noise, head.signal_scale[level], head.noise_scale[level]))
        steps = ddim_steps(alphas_cumprod(num_timesteps), range(timestep, -1, -stride))
        denoised.append(ddim_denoise(denoiser, noisy[-1], steps))
        errors.append(F.mse_loss(denoiser(noisy[-1], timestep), noise))
    tensors = (target, *map(torch.stack, (noisy, denoised, errors)))
    arrays = (tensor.float().cpu().numpy() for tensor in tensors)
    return NoiseSweep(np.array(timesteps), head.steps[0].timestep, *arrays)


def _build_trained(cfg: Config, checkpoint: str, trust: bool) -> DiffKDDistiller:
    """The distiller of a config with the weights of a distillation's checkpoint."""
    file = load_file(fetch(checkpoint), trust, 'give --trust-checkpoint')
    weights = file.get('state_dict')
    weights = weights if isinstance(weights, dict) else {}
    if not any(key.startswith('distill.') for key in weights):
        raise CheckpointError(
            f'{checkpoint} has no distill. weights, so no noise predictor; an epoch_*.pth '
            f'or iter_*.pth of a distillation has'
        )
    with weights_only(trust):
        model = MODELS.build(complete_model(cfg))
    if not isinstance(model, DiffKDDistiller):
        raise ConfigError(f'the model of {cfg.filename} is no DiffKDDistiller')
    load_strictly(model, weights, f'checkpoint {checkpoint!r}')
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').train()


def _choose_pair(distiller: DiffKDDistiller, name: Optional[str]) -> DistillPair:
    """The named pair, or the first one with diffusion heads."""
    choices = {
        name: pair
        for name, pair in distiller.pairs.items()
        if any(isinstance(head, DiffKDHead) for head in pair.heads)
    }
    if not choices:
        raise ConfigError('no pair of this config has a DiffKDHead, nothing is denoised')
    if name is None:
        name = next(iter(choices))
    if name not in choices:
        raise ConfigError(f'--pair {name} is none of those with a DiffKDHead: {", ".join(choices)}')
    return choices[name]


@torch.no_grad()
def _targets(distiller: DiffKDDistiller, pair: DistillPair, cfg: Config, seed: int) -> List[Tensor]:
    """The teacher's features that a pair gets to see in one batch of training, one per level."""
    seen: List[Mapping[int, HeadOutput]] = []
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=seed)))
    with pair.register_output_hook(seen.append):
        distiller(**distiller.data_preprocessor(batch, True), mode='loss')
    return [output.target for output in seen[0].values()]
