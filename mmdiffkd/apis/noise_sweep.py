"""How well a trained noise predictor denoises the features of the teacher."""

import copy
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import torch
import torch.nn.functional as F
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
from mmdiffkd.visualization.noise_sweep import NoiseSweep, noise_sweep_figure

_NUM_LEVELS = 20


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
